"""A queue that is driven from a job of AWS Batch: the document, the state and all requests are in
the result store, and nothing of this host lasts.

Owns whether this process may drive the queue (the lease), how it goes on where the one before it
was lost, and how it ends: a signal leaves the jobs running.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from runner.core import events as ev
from runner.core.run_mode import RunMode
from runner.core.scheduler import StoryEntry
from runner.core.states import QUEUE_ENDED, QueueStatus
from runner.errors import ConflictError, ExitCode, NotFoundError, UsageError
from runner.model.document import QueueSpec, parse_stored
from runner.model.settings import Settings
from runner.process.limits import heeded
from runner.results.control_channel import ControlChannel
from runner.results.journal import read_journal
from runner.results.layout import Layout
from runner.results.lease import parse_lease
from runner.results.store import ResultStore
from runner.results.stored_queue import StoredQueue, read_queue
from runner.service import requests, resume_from_store
from runner.service.control_requests import ControlRequests
from runner.service.foreground import STATUS_EXIT, Watcher
from runner.service.known_elsewhere import ended_elsewhere
from runner.service.queue_entry import QueueEntry
from runner.service.queue_repository import QueueRepository
from runner.service.read_throttle import ReadThrottle
from runner.service.result_stores import StoreRequest, opened, prepared
from runner.service.session import RunContext, Session
from runner.service.views import StoredViews

LEASE_EVERY = 5.0
"""Seconds between two looks at a lease that is waited for."""

HasEnded = Callable[[str], bool]
"""Whether a coordinator's job has ended, as far as can be told."""


@dataclass(frozen=True, slots=True)
class CoordinatorRequest:
    """``store``: where the queue is. ``context``: as what its jobs run; ``heartbeat`` is set in it.

    Its attempts are elsewhere, and outlive this process: there is a journal.
    ``own_job``: the Batch job that this is an attempt of; the attempts before it have ended.
    ``has_ended`` tells the same of another coordinator's job.
    """

    store: str
    context: RunContext
    own_job: str | None = None
    has_ended: HasEnded = lambda job: False


def coordinate(
    repository: QueueRepository, settings: Settings, wanted: CoordinatorRequest, watcher: Watcher
) -> ExitCode:
    """Drive the queue in the store; returns once it has ended, or has been left to the next.

    The exit code is the queue's, INTERRUPTED where the jobs go on. Raises ConflictError where
    another drives it, UsageError where there is no queue, StoreError.
    """
    return asyncio.run(_Coordinator(repository, settings, wanted, watcher).run())


def wait_for_lease(
    store: ResultStore,
    wanted: CoordinatorRequest,
    say: Callable[[str], None],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Return once nobody else can hold the queue. Blocks, as long as a lease is valid at most.

    By our own clock from when it was seen: its holder's may be wrong. Raises ConflictError where
    it is renewed meanwhile, StoreError.
    """
    seen: str | None = None
    due = 0.0
    while (found := store.get_versioned(Layout.lease_key)) is not None:
        held = parse_lease(found)
        if held is None or held.released:
            return
        job = held.instance_id
        if job is not None and (job == wanted.own_job or wanted.has_ended(job)):
            return
        if seen is None:
            seen, due = found.version, clock() + held.valid_for
            say(f"{held.who} holds the queue's lease: waits {held.valid_for:.0f} s for its end")
        elif found.version != seen:
            raise ConflictError(f"{held.who} drives the queue in {store.describe()}")
        if clock() >= due:
            return
        sleep(min(LEASE_EVERY, max(0.05, due - clock())))


def left_for_good(store: ResultStore, document: QueueSpec) -> StoredQueue | None:
    """The queue, if it has ended and its last driver has left nothing to do. Blocks.

    Raises StateError for a state or a journal that can't be read, StoreError.
    """
    layout = Layout()
    try:
        stored = read_queue(store, layout)
    except NotFoundError:
        return None
    held = parse_lease(store.get_versioned(Layout.lease_key))
    if stored.status not in QUEUE_ENDED or (held is not None and not held.released):
        return None
    # A request may have come with the end: the journal has it.
    journal = read_journal(store, layout, stored.run_id, len(document.jobs))
    return stored if journal is None or journal.queue.status in QUEUE_ENDED else None


class _Coordinator(requests.Host):
    """The host of one coordinator."""

    def __init__(
        self,
        repository: QueueRepository,
        settings: Settings,
        wanted: CoordinatorRequest,
        watcher: Watcher,
    ) -> None:
        self.repository = repository
        self.who = f"coordinator {wanted.own_job}" if wanted.own_job else "coordinator"
        self.stored = StoredViews(repository.paths)
        self.throttle = ReadThrottle(lambda: True)
        self._settings = settings
        self._wanted = wanted
        self._watcher = watcher
        self._session: Session | None = None
        self._left = False

    async def run(self) -> ExitCode:
        store, document = await asyncio.to_thread(self._begin)
        queue_id = str(document.queue_id)
        lock = self.repository.lock(queue_id, "runner coordinate")
        loop = asyncio.get_running_loop()
        handled = heeded((signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
        try:
            await asyncio.to_thread(self._take_up, document, store)
            for number in handled:
                loop.add_signal_handler(number, self._on_signal, number)
            while (code := await self._work(queue_id, document)) is None:
                self._watcher.say("a request came with the end of the queue: goes on")
            return code
        finally:
            for number in handled:
                loop.remove_signal_handler(number)
            lock.release()
            self.throttle.close()
            store.close()

    def _begin(self) -> tuple[ResultStore, QueueSpec]:
        """The queue's store and document. Blocks.

        Raises UsageError where there is none, ConflictError, EndedElsewhereError, StoreError.
        """
        say = self._watcher.say
        store = prepared(StoreRequest(self._wanted.store, named=True), self._settings, say)
        assert store is not None
        try:
            wait_for_lease(store, self._wanted, say)
            raw = store.get_bytes(Layout.document_key)
            if raw is None:
                told = f"there is no {Layout.document_key} in {store.describe()}"
                raise UsageError(f"{told}: nothing was launched there")
            document = parse_stored(raw)
            if document.queue_id is None:
                raise UsageError(f"the document in {store.describe()} has no queue_id")
            if (ended := left_for_good(store, document)) is not None:
                raise ended_elsewhere(ended, store.describe())
        except BaseException:
            store.close()
            raise
        return store, document

    def _take_up(self, document: QueueSpec, store: ResultStore) -> None:
        """Go on from what is stored. Blocks."""
        repository, queue_id = self.repository, str(document.queue_id)
        if not repository.exists(queue_id):
            repository.create(document, "run", anonymous=False)
        entry = repository.find(queue_id)
        moment = ev.Now(time.time(), time.monotonic())
        say = self._watcher.say
        found = resume_from_store.find(repository, entry, store, say, journal=moment)
        if found is not None:
            resume_from_store.take_over(repository, entry, found, store)
            say(f"resumes the run in {found.where}")

    def _opened_store(self) -> ResultStore:
        store = opened(StoreRequest(self._wanted.store, named=True), self._settings)
        assert store is not None
        return store

    async def _work(self, queue_id: str, document: QueueSpec) -> ExitCode | None:
        """One session; None where there is more to do than when it decided to end."""
        context = replace(self._wanted.context, results=self._opened_store(), journal=True)
        session = Session(
            self.repository, self._settings, queue_id, context, self._on_story, document
        )
        self._session = session
        store = self._opened_store()
        every = self._settings.control_interval
        control = ControlRequests(self, session, ControlChannel(store), every, self._watcher.say)
        asked: asyncio.Task[None] | None = None
        try:
            self._watcher.opened(session)
            if self._left:
                session.detach()
            asked = asyncio.create_task(control.run())
            status = await session.run()
            again = status in QUEUE_ENDED and session.scheduler.queue.status not in QUEUE_ENDED
            if not again:
                await control.finish(_over(queue_id, status))
            return None if again else self._exit_code(session, status)
        finally:
            if asked is not None:
                asked.cancel()
            control.close()
            self._watcher.closed()
            session.close()
            store.close()

    def _exit_code(self, session: Session, status: QueueStatus) -> ExitCode:
        if session.engine.succeeded is not None:
            raise ConflictError(str(session.engine.succeeded))
        code = STATUS_EXIT[status]
        if code is ExitCode.DONE and session.engine.exit_incomplete:
            return ExitCode.RESULTS_INCOMPLETE
        return ExitCode.INTERRUPTED if code is ExitCode.NOT_FINISHED else code

    def _on_signal(self, number: signal.Signals) -> None:
        """Its host goes away, or a person ends it: the jobs don't run here, and go on."""
        self._left = True
        self._watcher.say(f"{number.name}: leaves the queue; its jobs go on")
        if self._session is not None:
            self._session.detach()

    def _on_story(self, entries: list[StoryEntry]) -> None:
        self._watcher.story(entries)

    # -- Host ----------------------------------------------------------------------------------

    def session_of(self, name: str) -> Session | None:
        """See Host."""
        session = self._session
        return session if session is not None and session.name == name else None

    def pending_action(self, name: str, owner: str | None) -> Mapping[str, str]:
        """See QueryContext."""
        return {}

    def changed(self) -> asyncio.Future[None]:
        """See Host: nothing is held open here."""
        return asyncio.get_running_loop().create_future()

    async def submit(self, raw: bytes, again: RunMode) -> dict[str, Any]:
        """See Host."""
        raise ConflictError("a coordinator drives one queue: it takes no others")

    async def act_on_resting(self, entry: QueueEntry, make: Callable[[ev.Now], ev.Event]) -> None:
        """See Host."""
        raise ConflictError(f"queue '{entry.name}' is not the one that is driven here")

    async def finish_uploads(self, entry: QueueEntry) -> None:
        """See Host."""
        raise ConflictError(f"queue '{entry.name}' is not the one that is driven here")

    async def stop(self, *, interrupt: bool) -> None:
        """See Host."""
        assert self._session is not None
        engine = self._session.engine
        if interrupt:
            engine.post(ev.InterruptRequested(engine.now(), "interrupted by runner stop"))
        else:
            self._session.detach()


def _over(queue_id: str, status: QueueStatus) -> str:
    if status in QUEUE_ENDED:
        return (
            f"queue '{queue_id}' has ended: it is {status.value}\n"
            f"`runner resume {queue_id} --retry-failed` runs again what failed"
        )
    return f"the coordinator of '{queue_id}' is ending: ask again when another drives the queue"
