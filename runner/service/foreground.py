"""``runner run``: one queue, here, to its end, with whoever watches looking at the terminal.

Owns the signals of a foreground process and the socket through which other terminals reach it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from runner.control.protocol import Peer
from runner.control.server import Server
from runner.core import events as ev
from runner.core.run_mode import RunMode
from runner.core.scheduler import StoryEntry
from runner.core.states import QueueStatus
from runner.errors import ConflictError, ExitCode, disk_error
from runner.model.document import QueueSpec
from runner.model.settings import Settings
from runner.process.limits import allow_descriptors, heeded
from runner.results.store import ResultStore, StoreError
from runner.service import request_table, requests
from runner.service.attempt_place import check_place
from runner.service.batch_placement import noted_run
from runner.service.documents import check_same, mend
from runner.service.environment_notes import compare_environment
from runner.service.notices.hosts import courier_for
from runner.service.part import exit_code_of_part, part_chosen
from runner.service.queue_entry import QueueEntry
from runner.service.queue_ids import give_back, name_for
from runner.service.queue_repository import QueueRepository
from runner.service.read_throttle import ReadThrottle
from runner.service.result_stores import StoreRequest, prepared, wanted
from runner.service.session import RunContext, Session, end_attempts
from runner.service.views import StoredViews

if TYPE_CHECKING:
    # Imported where it is made: it brings boto3.
    from runner.service.batch_place import BatchRun

CLIENTS_DESCRIPTORS = 8192
"""A thousand clients need a thousand descriptors."""

STATUS_EXIT = {
    QueueStatus.COMPLETED: ExitCode.DONE,
    QueueStatus.FAILED: ExitCode.QUEUE_FAILED,
    QueueStatus.CANCELLED: ExitCode.CANCELLED,
    QueueStatus.INTERRUPTED: ExitCode.INTERRUPTED,
    QueueStatus.RUNNING: ExitCode.NOT_FINISHED,
    QueueStatus.PENDING: ExitCode.NOT_FINISHED,
}


class Watcher(Protocol):
    """Whoever shows the run to a person."""

    def opened(self, session: Session) -> None:
        """The queue was taken up; nothing has started."""

    def story(self, entries: list[StoryEntry]) -> None:
        """This has happened and is durable."""

    def say(self, message: str) -> None:
        """A word from runner itself."""

    def closed(self) -> None:
        """Nothing more will happen."""


@dataclass(frozen=True, slots=True)
class RunRequest:
    """What the caller of ``run`` wants; ``results``: a store instead of the document's; ``batch``:
    its attempts run on AWS Batch; ``part``: only jobs of these ids are to start."""

    document: QueueSpec
    again: RunMode
    context: RunContext
    results: str | None = None
    batch: BatchRun | None = None
    part: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """How a run ended.

    ``before``: how the queue stood when it was taken up; ``started``: whether anything was started
    since. ``results``: where its results are stored, None where nothing is.
    """

    queue_id: str
    status: QueueStatus
    exit_code: ExitCode
    projection: Path
    before: QueueStatus
    started: bool
    results: str | None


def run(
    repository: QueueRepository, settings: Settings, wanted: RunRequest, watcher: Watcher
) -> RunOutcome:
    """Run a queue in the foreground. Raises RunnerError before anything was started."""
    return asyncio.run(_Foreground(repository, settings, wanted, watcher).run())


def _soon(loop: asyncio.AbstractEventLoop, say: Callable[[str], None], text: str) -> None:
    """Say it on the loop, from any thread; a loop that is closed has no more to say."""
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(say, text)


class _Foreground(requests.Host):
    """The host of one foreground run."""

    def __init__(
        self, repository: QueueRepository, settings: Settings, wanted: RunRequest, watcher: Watcher
    ) -> None:
        self.repository = repository
        self.who = f"runner run (pid {os.getpid()})"
        self.stored = StoredViews(repository.paths)
        self.throttle = ReadThrottle(lambda: True)
        self._settings = settings
        self._wanted = wanted
        self._watcher = watcher
        self._context = wanted.context
        self._batch = wanted.batch
        self._want = StoreRequest(None)
        self._session: Session | None = None
        self._change: asyncio.Future[None] | None = None
        self._signals = 0
        self._by: ExitCode | None = None
        self._mended = False

    async def run(self) -> RunOutcome:
        allow_descriptors(CLIENTS_DESCRIPTORS)
        wanted, repository = self._wanted, self.repository
        if self._batch is not None:
            say, loop = self._watcher.say, asyncio.get_running_loop()
            self._batch.say = partial(_soon, loop, say)
        document, store = await asyncio.to_thread(self._begin)
        queue_id = str(document.queue_id)
        courier = courier_for(self._settings, wanted.context)
        self._context = replace(wanted.context, results=store, courier=courier)
        lock = repository.lock(queue_id, "runner run")
        try:
            await self._accept(document, anonymous=wanted.document.queue_id is None)
            await asyncio.to_thread(self._take_over, queue_id)
            await asyncio.to_thread(self._enter_place, queue_id)
            if (logs := repository.log_paths(queue_id).log_dir) != repository.log_dir:
                self._watcher.say(f"the logs of {queue_id} are in {logs}, where it was begun")
            if self._batch is None:  # there it is not theirs
                again, environment = wanted.again, self._context.environment
                compare_environment(repository, queue_id, environment, again, self._watcher.say)
            repository.set_current(queue_id)
            return await self._work(queue_id, document)
        except OSError as error:
            raise disk_error(error.filename or repository.paths.root, error) from None
        finally:
            lock.release()
            courier.close()
            self.throttle.close()
            if self._batch is not None:
                self._batch.close()

    def _begin(self) -> tuple[QueueSpec, ResultStore | None]:
        """The document with its id, and the queue's store. Blocks.

        Raises EndedElsewhereError, UsageError, LockedError.
        """
        given, repository = self._wanted.document, self.repository
        while True:
            queue_id = name_for(repository, given)
            document = given.with_id(queue_id)
            new = not repository.exists(queue_id)
            store: ResultStore | None = None
            try:
                repository.check_daemon(queue_id)
                want = self._want = wanted(document, self._wanted.results)
                if self._batch is not None:
                    want = self._want = self._batch.store(document, want)
                store = prepared(want, self._settings, self._watcher.say)
                if not new or self._is_free(document, store):
                    return document, store
            except BaseException:
                if new and given.queue_id is None:
                    give_back(repository, queue_id)
                if store is not None:
                    store.close()
                raise
            if store is not None:
                store.close()

    def _is_free(self, document: QueueSpec, store: ResultStore | None) -> bool:
        """Whether a queue that is new here may begin with this id."""
        if store is None:
            return True
        from runner.service import resume_from_store
        from runner.service.known_elsewhere import check_not_ended, reserve

        wanted = self._wanted
        assert document.queue_id is not None
        if wanted.document.queue_id is None:
            # A store that was named is the caller's choice, whatever the id is.
            named = wanted.results is not None or wanted.document.result_s3_prefix is not None
            return named or reserve(store, document)
        if wanted.again.mends:
            # What can't be mended so is refused before anything is written here.
            resume_from_store.look(document, wanted.again, store, self._watcher.say)
        elif not wanted.again.fresh:
            # One that doesn't answer is told of when it is asked for an unfinished run.
            with suppress(StoreError):
                check_not_ended(store, document.queue_id)
        return True

    async def _accept(self, document: QueueSpec, *, anonymous: bool) -> None:
        assert document.queue_id is not None
        queue_id, again, repository = document.queue_id, self._wanted.again, self.repository
        if repository.exists(queue_id) and again.fresh:
            await asyncio.to_thread(self._enter_place, queue_id)
            await end_attempts(repository, self._settings, queue_id, self._context)
            aside = repository.set_aside(queue_id)
            self._watcher.say(f"the former run is kept as {aside}")
        if not repository.exists(queue_id):
            repository.create(document, "run", anonymous=anonymous, again=again)
        elif again.mends:
            self._mended = mend(repository, document, again)
        else:
            check_same(repository, document)

    def _take_over(self, queue_id: str) -> None:
        """Go on from what another machine has stored of this queue, if it is new here."""
        entry, store = self.repository.find(queue_id), self._context.results
        if store is None:
            return
        from runner.service import resume_from_store

        try:
            # On AWS Batch attempts go on without us: there is a journal of them.
            moment = None if self._batch is None else ev.Now(time.time(), time.monotonic())
            found = resume_from_store.find(
                self.repository, entry, store, self._watcher.say, journal=moment
            )
        except StoreError as error:
            self._watcher.say(
                f"begun anew: it is not known whether it was begun elsewhere: {error}"
            )
            return
        if found is not None:
            resume_from_store.take_over(self.repository, entry, found, store)
            self._mended = self._wanted.again.mends
            self._watcher.say(f"resumes the run in {found.where}")

    def _enter_place(self, queue_id: str) -> None:
        """Have the run's attempts found, and started, where they run. Blocks."""
        entry, batch = self.repository.find(queue_id), self._batch
        check_place(entry, on_batch=batch is not None)
        if entry.queue is not None:  # else it can't be read: --fresh sets it aside
            self.repository.note(queue_id, noted_run(batch))
            if batch is not None:
                self._context = batch.placed(self._context, self._want, entry.queue.run_id)

    async def _work(self, queue_id: str, document: QueueSpec) -> RunOutcome:
        session = Session(
            self.repository, self._settings, queue_id, self._context, self._on_story, document
        )
        server = Server(
            self._answer,
            self.repository.queue_paths(queue_id).socket,
            mode=0o600,
            may_act=True,
            uids={0, os.geteuid()},
        )
        self._session = session
        loop = asyncio.get_running_loop()
        handled = heeded((signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
        try:
            await server.start()
            self._watcher.opened(session)
            for number in handled:
                loop.add_signal_handler(number, self._on_signal, number)
            before = session.scheduler.queue
            before_starts = part_chosen(self._wanted.part, session.scheduler)
            if self._wanted.again.retry_failed and not self._mended:
                before_starts.append(ev.RetryRequested)
            status = await session.run(*before_starts)
            return RunOutcome(
                queue_id,
                status,
                self._exit_code(status, session),
                self.repository.queue_paths(queue_id).projection,
                before.status,
                session.scheduler.queue.starts > before.starts,
                None if self._context.results is None else self._context.results.describe(),
            )
        finally:
            for number in handled:
                loop.remove_signal_handler(number)
            self._watcher.closed()
            await server.close()
            session.close()

    def _exit_code(self, status: QueueStatus, session: Session) -> ExitCode:
        if status is QueueStatus.INTERRUPTED and self._by is not None:
            return self._by
        if status is QueueStatus.INTERRUPTED:
            part = exit_code_of_part(session.scheduler)
            if part is not None:
                return part
        code = STATUS_EXIT[status]
        if code is ExitCode.DONE and session.engine.exit_incomplete:
            return ExitCode.RESULTS_INCOMPLETE
        return code

    # -- signals -----------------------------------------------------------------------------

    def _on_signal(self, number: signal.Signals) -> None:
        """The first interrupts in an orderly way; a second Ctrl-C kills at once."""
        assert self._session is not None
        engine = self._session.engine
        self._signals += 1
        if engine.scheduler.finished or self._signals > 1:
            engine.notices.give_up_waiting()
        if self._signals == 1:
            by_hand = number is signal.SIGINT
            self._by = ExitCode.CTRL_C if by_hand else ExitCode.INTERRUPTED
            name = "Ctrl-C" if by_hand else number.name
            if self._batch is not None and self._batch.options.detach:
                self._watcher.say(f"{name}: {self._batch.detaching(engine.scheduler)}")
                engine.detach()
                return
            engine.post(ev.InterruptRequested(engine.now(), f"interrupted by {name}"))
            where = "" if self._batch is None else " on AWS Batch (--detach leaves them there)"
            self._watcher.say(
                f"{name}: ending the running jobs{where}; the same command resumes the queue"
                + (" (Ctrl-C again kills at once)" if by_hand else "")
            )
        elif number is signal.SIGINT:
            engine.post(ev.KillRequested(engine.now()))

    def _on_story(self, entries: list[StoryEntry]) -> None:
        self._watcher.story(entries)
        if all(entry.job is not None for entry in entries):
            return
        change, self._change = self._change, None
        if change is not None and not change.done():
            change.set_result(None)

    # -- what the socket may ask (Host) ------------------------------------------------------

    async def _answer(self, message: dict[str, Any], peer: Peer) -> dict[str, Any]:
        if message["request"] in request_table.ACTING:
            self._watcher.say(
                f"{message['request']} asked for by process {peer.pid} of user {peer.uid}"
            )
        return await request_table.answer(self, message, peer)

    def session_of(self, name: str) -> Session | None:
        """See Host."""
        session = self._session
        return session if session is not None and session.name == name else None

    def pending_action(self, name: str, owner: str | None) -> Mapping[str, str]:
        """See QueryContext."""
        return {}

    def changed(self) -> asyncio.Future[None]:
        """See Host."""
        if self._change is None or self._change.done():
            self._change = asyncio.get_running_loop().create_future()
        return self._change

    async def submit(self, raw: bytes, again: RunMode, batch: Any = None) -> dict[str, Any]:
        """See Host."""
        raise ConflictError("this is a foreground run of one queue: it takes no others")

    async def act_on_resting(self, entry: QueueEntry, make: Callable[[ev.Now], ev.Event]) -> None:
        """See Host."""
        raise ConflictError(f"queue '{entry.name}' is not the one that runs here")

    async def finish_uploads(self, entry: QueueEntry) -> None:
        """See Host."""
        raise ConflictError(f"queue '{entry.name}' is not the one that runs here")

    async def stop(self, *, interrupt: bool) -> None:
        """See Host."""
        assert self._session is not None
        if not interrupt:
            raise ConflictError("a foreground run can't be detached: its jobs end with it")
        engine = self._session.engine
        self._by = ExitCode.INTERRUPTED
        engine.post(ev.InterruptRequested(engine.now(), "interrupted by runner stop"))
