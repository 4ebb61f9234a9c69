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
from typing import TYPE_CHECKING, Any

from runner.core import events as ev
from runner.core.run_mode import RESUMED, RunMode
from runner.core.scheduler import StoryEntry
from runner.core.states import QUEUE_ENDED, QueueStatus
from runner.errors import ConflictError, ExitCode, NotFoundError, UsageError
from runner.model.document import QueueSpec
from runner.model.settings import Settings
from runner.process.limits import heeded
from runner.results.control_channel import ControlChannel
from runner.results.journal import JournalState, read_journal
from runner.results.layout import Layout
from runner.results.lease import parse_lease
from runner.results.store import ResultStore
from runner.results.stored_queue import StoredQueue, read_queue
from runner.service import requests, resume_from_store
from runner.service.control_requests import ControlRequests
from runner.service.foreground import STATUS_EXIT, Watcher
from runner.service.known_elsewhere import ended_elsewhere
from runner.service.notices.hosts import courier_for
from runner.service.queue_entry import QueueEntry
from runner.service.queue_repository import QueueRepository
from runner.service.read_throttle import ReadThrottle
from runner.service.result_stores import StoreRequest, opened, prepared
from runner.service.session import RunContext, Session
from runner.service.views import StoredViews
from runner.store.rows import request_rows

if TYPE_CHECKING:
    # Imported where it is made: it brings boto3.
    from runner.service.batch_place import BatchRun

LEASE_EVERY = 5.0
"""Seconds between two looks at a lease that is waited for."""

HasEnded = Callable[[str], bool]
"""Whether a coordinator's job has ended, as far as can be told."""


@dataclass(frozen=True, slots=True)
class CoordinatorRequest:
    """``store``: where the queue is. ``context``: as what its jobs run; ``heartbeat`` is set in it.

    Its attempts are elsewhere, and outlive this process: there is a journal.
    ``batch``: AWS Batch as the place of the jobs, None: this machine (in tests). ``again``: how
    this ``launch``, which is carried out once, mends the queue; ``document``: the digest of the
    corrected document that it goes on with.
    ``own_job``: the Batch job that this is an attempt of; the attempts before it have ended.
    ``has_ended`` tells the same of another coordinator's job.
    """

    store: str
    context: RunContext
    batch: BatchRun | None = None
    own_job: str | None = None
    launch: str = ""
    again: RunMode = RESUMED
    document: str | None = None
    has_ended: HasEnded = lambda job: False


def coordinate(
    repository: QueueRepository, settings: Settings, wanted: CoordinatorRequest, watcher: Watcher
) -> ExitCode:
    """Drive the queue in the store; returns once it has ended, or has been left to the next.

    The exit code is the queue's; INTERRUPTED after a request to stop, NOT_FINISHED after a signal,
    when the jobs go on. Raises ConflictError where
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


def stored_queue(store: ResultStore) -> StoredQueue | None:
    """The run that a store holds. Blocks. Raises StateError for what can't be read, StoreError."""
    try:
        return read_queue(store, Layout())
    except NotFoundError:
        return None


def left_for_good(store: ResultStore, stored: StoredQueue, journal: JournalState | None) -> bool:
    """Whether the queue has ended and its last driver has left nothing to do. Blocks."""
    held = parse_lease(store.get_versioned(Layout.lease_key))
    # A folder's lease is nobody's business: it has none.
    released = store.local_folder is not None if held is None else held.released
    if stored.status not in QUEUE_ENDED or not released:
        return False
    # A request may have come with the end: the journal has it.
    return journal is None or journal.queue.status in QUEUE_ENDED


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
        self._stopped = False
        self._again = wanted.again

    async def run(self) -> ExitCode:
        store, document = await asyncio.to_thread(self._begin)
        courier = courier_for(self._settings, self._wanted.context)
        self._wanted = replace(self._wanted, context=replace(self._wanted.context, courier=courier))
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
            if self._wanted.batch is not None:
                self._wanted.batch.close()
            lock.release()
            courier.close()
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
            document = self._document(store)
            if document is None or document.queue_id is None:
                told = f"there is no queue's {Layout.document_key} in {store.describe()}"
                raise UsageError(f"{told}: nothing was launched there")
        except BaseException:
            store.close()
            raise
        return store, document

    def _document(self, store: ResultStore) -> QueueSpec | None:
        """What the queue goes on with: its document, or the corrected one. Raises as ``_begin``."""
        wanted, digest = self._wanted, None
        if (stored := stored_queue(store)) is not None:
            journal = read_journal(store, Layout(), stored.run_id)
            digest = None if journal is None else journal.document
            if journal is not None and wanted.launch in journal.requests:
                self._again = RESUMED
            if self._again.fresh:
                self._set_former_aside(store, stored)
                return resume_from_store.stored_document(store, None)
            if not self._again.mends and left_for_good(store, stored, journal):
                raise ended_elsewhere(stored, store.describe())
        if self._again.mends and wanted.document is not None:
            digest = wanted.document
        return resume_from_store.stored_document(store, digest)

    def _set_former_aside(self, store: ResultStore, stored: StoredQueue) -> None:
        """End what still runs of the run that is there, and keep its state: what follows is as for
        a new queue. Each step may be done again. Raises StoreError, StateError, AwsError."""
        say = self._watcher.say
        former = resume_from_store.stored_document(store, None)
        if self._wanted.batch is not None and former is not None:
            count = self._wanted.batch.end_jobs(stored.run_id, former, "--fresh")
            if count:
                say(f"{count} jobs of the former run were ended")
        key = Layout().former_state_key(stored.run_id)
        store.put_bytes(key, stored.raw, durable=True)
        store.delete(Layout.state_key)
        say(f"the state of the former run is kept as {key}")

    def _take_up(self, document: QueueSpec, store: ResultStore) -> None:
        """Go on from what is stored. Blocks."""
        repository, queue_id = self.repository, str(document.queue_id)
        if not repository.exists(queue_id):
            fresh = self._again.fresh
            # It is begun anew once, however often this coordinator is started.
            carried_out = request_rows({self._wanted.launch: time.time()}) if fresh else {}
            again = RESUMED if fresh else self._again
            repository.create(document, "run", anonymous=False, again=again, notes=carried_out)
        entry = repository.find(queue_id)
        moment = ev.Now(time.time(), time.monotonic())
        say = self._watcher.say
        found = resume_from_store.find(repository, entry, store, say, journal=moment)
        if found is not None:
            applied = self._wanted.launch if self._again.mends else None
            resume_from_store.take_over(repository, entry, found, store, applied)
            say(f"resumes the run in {found.where}")

    def _placed(self, queue_id: str) -> RunContext:
        """The context of a session. Blocks."""
        context = replace(self._wanted.context, results=self._opened_store(), journal=True)
        batch, queue = self._wanted.batch, self.repository.find(queue_id).queue
        if batch is None or queue is None:
            return context
        return batch.placed(context, StoreRequest(self._wanted.store, named=True), queue.run_id)

    def _opened_store(self) -> ResultStore:
        store = opened(StoreRequest(self._wanted.store, named=True), self._settings)
        assert store is not None
        return store

    async def _work(self, queue_id: str, document: QueueSpec) -> ExitCode | None:
        """One session; None where there is more to do than when it decided to end."""
        context = await asyncio.to_thread(self._placed, queue_id)
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
        # Batch starts it again where it was only left.
        return ExitCode.INTERRUPTED if self._stopped else code

    def _on_signal(self, number: signal.Signals) -> None:
        """Its host goes away, or a person ends it: the jobs don't run here, and go on."""
        self._left = True
        self._watcher.say(f"{number.name}: leaves the queue; its jobs go on")
        if self._session is not None:
            self._session.engine.notices.give_up_waiting()
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

    async def submit(self, raw: bytes, again: RunMode, batch: Any = None) -> dict[str, Any]:
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
        engine, self._stopped = self._session.engine, True
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
