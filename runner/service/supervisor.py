"""Keeps a session open for each queue that may be worked on, up to so many at once.

Of queues whose jobs run elsewhere, on AWS Batch, and of open ones, which an Executor adds to, any
number are worked on beside these.
Each queue is attended by a task, and its session lives in a thread with a loop of its own: whatever
is slow in it holds up no other, and whatever goes wrong in it (an exception, a damaged state, a
disk, a store) ends that session, is noted against that queue alone, and is tried again when it may
have passed. Owns the tasks and threads, the queues' locks, and how many are worked on at once. What
is ready, and what is known against a queue, is Candidates' business.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Protocol

import structlog

from runner.core.scheduler import StoryEntry
from runner.core.states import QueueStatus
from runner.errors import LockedError, RunnerError
from runner.model.settings import Settings
from runner.service import resume_from_store
from runner.service.batch_place import BatchRun
from runner.service.batch_placement import ON_BATCH_KEY, placed_on_batch
from runner.service.batch_queues import BatchQueues
from runner.service.candidates import Candidates
from runner.service.garbage_collection import keep_from_collection, sweep
from runner.service.job_user import job_user
from runner.service.living_jobs import LivingJobs
from runner.service.open_queue import is_open_queue, most_of
from runner.service.queue_entry import QueueEntry
from runner.service.queue_repository import QueueRepository
from runner.service.result_stores import wanted
from runner.service.session import RunContext, Session
from runner.store.locks import Lock

A_DAY = 24 * 3600.0
MOST_BESIDE = 1000
"""Queues on AWS Batch, and open ones, at once: each has a thread, and waits most of the time."""

SWEEP_AFTER = 5.0
"""Seconds without a queue after which the memory of those that were left is gone through."""

log = structlog.get_logger()


class SessionListener(Protocol):
    """What a supervisor tells its daemon, and asks it."""

    def why_not(self) -> str | None:
        """Why nothing is taken up any more, if so."""

    def taking_up(self) -> None:
        """A queue is about to be opened. Raises RunnerError if it must not be."""

    def opened(self, session: Session) -> None:
        """A queue was opened; nothing of it has started."""

    def begun(self) -> None:
        """A queue is being worked on: what went on from before is adopted."""

    def story(self, session: Session, entries: list[StoryEntry]) -> None:
        """This has happened in a queue, and is durable. In the queue's thread."""

    def went_on(self, name: str, *, queue: bool) -> None:
        """Something has happened in a queue; ``queue``: to itself, and not to jobs only."""

    def left(self) -> None:
        """A queue was left, or something is known against one."""


class _Attended:
    """A queue that a task is about. ``session``: once it is open; ``beside``: it takes no place of
    those that others wait for."""

    def __init__(self, name: str, *, finishing: bool, beside: bool) -> None:
        self.name = name
        self.finishing = finishing
        self.beside = beside
        self.session: Session | None = None
        self.lock: Lock | None = None


class Supervisor:
    """The queues of one daemon. ``context``: where jobs run from now on."""

    def __init__(
        self,
        repository: QueueRepository,
        settings: Settings,
        candidates: Candidates,
        context: Callable[[], RunContext],
        batch: BatchQueues,
        listener: SessionListener,
    ) -> None:
        self._repository = repository
        self._settings = settings
        self._candidates = candidates
        self._context = context
        self._batch = batch
        self._listener = listener
        self._attended: dict[str, _Attended] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._handling: dict[str, asyncio.Lock] = {}
        self._living_jobs = LivingJobs(repository)
        self._behind: list[str] = []
        self._sweeping: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        # One more for the uploads of a queue that has ended.
        count = settings.max_parallel_queues + 1
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="queue")
        self._more_threads = ThreadPoolExecutor(MOST_BESIDE, thread_name_prefix="queue-beside")

    # -- looking -----------------------------------------------------------------------------

    @property
    def sessions(self) -> list[Session]:
        """The open ones."""
        return [each.session for each in self._attended.values() if each.session is not None]

    def session_of(self, name: str) -> Session | None:
        """The open session of this queue, if there is one."""
        attended = self._attended.get(name)
        return None if attended is None else attended.session

    def attends(self, name: str) -> bool:
        """Whether a task is about this queue: it has, or may take, the queue's lock."""
        return name in self._attended

    @property
    def idle(self) -> bool:
        """Whether no task is about any queue."""
        return not self._attended

    @property
    def behind(self) -> list[str]:
        """The queues that a further one waits for: no more may be worked on at once."""
        return self._behind

    def handling(self, name: str) -> asyncio.Lock:
        """Held by whoever opens, creates or changes this queue."""
        return self._handling.setdefault(name, asyncio.Lock())

    # -- taking up ---------------------------------------------------------------------------

    async def take_up(self, starts_after: asyncio.Future[None]) -> float:
        """Attend to as many as may be worked on now; seconds until it is worth another look."""
        if self._listener.why_not() is not None:
            return A_DAY
        entries = await asyncio.to_thread(self._repository.entries)
        ready = list(self._candidates.ready(entries))
        alive = self._living_jobs.among(self._candidates.troubles(), self._attended)
        for entry in ready:
            if self._listener.why_not() is not None:
                return A_DAY
            if entry.name not in self._attended and self._has_room(entry, alive):
                self._attend(entry, starts_after)
        holders = self._holders(alive)
        self._behind = holders if len(holders) >= self._settings.max_parallel_queues else []
        return self._candidates.wait()

    def _has_room(self, entry: QueueEntry, alive: set[str]) -> bool:
        if entry.ended:
            # Its uploads are in nobody's way; one after the other.
            return not any(each.finishing for each in self._attended.values())
        if is_beside(entry.meta):
            return True
        others = set(self._holders(alive)) - {entry.name}
        return len(others) < self._settings.max_parallel_queues

    def _holders(self, alive: set[str]) -> list[str]:
        """The queues that are worked on, or whose jobs live though they can't be opened."""
        attended = [
            each.name for each in self._attended.values() if not (each.finishing or each.beside)
        ]
        return attended + sorted(alive - set(attended))

    # -- one queue ---------------------------------------------------------------------------

    def _attend(self, entry: QueueEntry, starts_after: asyncio.Future[None]) -> None:
        attended = _Attended(entry.name, finishing=entry.ended, beside=is_beside(entry.meta))
        self._attended[entry.name] = attended
        task = asyncio.create_task(self._work(attended, entry, starts_after))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _work(
        self, attended: _Attended, entry: QueueEntry, starts_after: asyncio.Future[None]
    ) -> None:
        """All that one queue's session is, from its store to its end. Raises nothing."""
        trouble: Exception | None = None
        try:
            status = await self._open_and_run(attended, entry, starts_after)
            if status is not None:
                log.info("queue_left", queue=entry.name, status=status.value)
        except LockedError as error:
            log.info("queue_locked", queue=entry.name, why=str(error))
            self._candidates.put_off(entry.name)
        except Exception as error:
            trouble = error
        if attended.session is not None:
            self._candidates.finishing.discard(entry.name)
            attended.session = None
        if attended.lock is not None:
            attended.lock.release()
        if trouble is not None:
            if not isinstance(trouble, RunnerError | OSError):
                # A bug, met by one queue: the others are not to suffer for it.
                log.error("queue_broken", queue=entry.name, exc_info=trouble)
            self._candidates.refuse(entry, trouble)
        del self._attended[entry.name]
        self._sweep_later()
        self._listener.left()

    async def _open_and_run(
        self, attended: _Attended, entry: QueueEntry, starts_after: asyncio.Future[None]
    ) -> QueueStatus | None:
        """Its store first, and its user looked up, with nothing held; then the queue itself."""
        context, found = await asyncio.to_thread(self._prepare, entry)
        living: asyncio.Future[QueueStatus | None] | None = None
        place: BatchRun | None = None
        try:
            async with self.handling(entry.name):
                if (taken := await self._take(attended, context, found)) is not None:
                    if (there := placed_on_batch(taken)) is not None:
                        place = self._batch.run_of(there)
                        context = await asyncio.to_thread(self._place, taken.name, place, context)
                    elif is_open_queue(taken.meta):
                        context = replace(context, max_parallel=most_of(taken.meta))
                    opened = asyncio.Event()
                    work = functools.partial(self._live, attended, context, starts_after, opened)
                    threads = self._more_threads if attended.beside else self._threads
                    living = self._loop.run_in_executor(threads, work)
                    living.add_done_callback(lambda _: opened.set())
                    await opened.wait()
            return None if living is None else await living
        finally:
            if living is None and context.results is not None:
                context.results.close()
            if place is not None:
                await asyncio.to_thread(place.close)

    # -- in the queue's own thread -----------------------------------------------------------

    def _live(
        self,
        attended: _Attended,
        context: RunContext,
        starts_after: asyncio.Future[None],
        opened: asyncio.Event,
    ) -> QueueStatus | None:
        """A session on a loop of its own: what it computes and writes holds up no other's."""
        return asyncio.run(self._live_here(attended, context, starts_after, opened))

    async def _live_here(
        self,
        attended: _Attended,
        context: RunContext,
        starts_after: asyncio.Future[None],
        opened: asyncio.Event,
    ) -> QueueStatus | None:
        name, daemons = attended.name, self._loop

        def observe(entries: list[StoryEntry]) -> None:
            self._listener.story(session, entries)
            queue = any(entry.job is None for entry in entries)
            daemons.call_soon_threadsafe(
                functools.partial(self._listener.went_on, name, queue=queue)
            )

        try:
            with keep_from_collection():
                session = Session(self._repository, self._settings, name, context, observe)
        except BaseException:
            if context.results is not None:
                context.results.close()
            raise
        may_run: Future[bool] = Future()
        may_start: Future[None] = Future()
        try:
            daemons.call_soon_threadsafe(
                self._register, attended, session, may_run, may_start, starts_after, opened
            )
            if not await asyncio.wrap_future(may_run):
                return None
            # After what a session does at once: it adopts what goes on from before.
            session.loop.call_soon(daemons.call_soon_threadsafe, self._listener.begun)
            until = None if may_start.done() else asyncio.wrap_future(may_start)
            return await session.run(starts_after=until)
        finally:
            try:
                session.close()
            finally:
                session.over.set_result(None)

    def _register(
        self,
        attended: _Attended,
        session: Session,
        may_run: Future[bool],
        may_start: Future[None],
        starts_after: asyncio.Future[None],
        opened: asyncio.Event,
    ) -> None:
        """On the daemon's loop: from now on the session can be asked, and told to end."""
        if self._listener.why_not() is not None:
            may_run.set_result(False)
            return
        self._candidates.note_opened(attended.name)
        attended.session = session
        log.info("queue_opened", queue=attended.name)
        self._listener.opened(session)
        if starts_after.done():
            may_start.set_result(None)
        else:
            starts_after.add_done_callback(lambda _: may_start.set_result(None))
        may_run.set_result(True)
        opened.set()

    # -- before that -------------------------------------------------------------------------

    def _prepare(self, entry: QueueEntry) -> tuple[RunContext, resume_from_store.StoredRun | None]:
        """Where and as what a queue's jobs run from now on, and the stored run to resume.

        Blocks. Raises RunnerError.
        """
        rights = job_user(self._settings).rights
        store = self._candidates.store_of(entry)
        try:
            found = self._candidates.begun_elsewhere(entry, store)
        except BaseException:
            if store is not None:
                store.close()
            raise
        return replace(self._context(), results=store, rights=rights), found

    def _place(self, name: str, place: BatchRun, context: RunContext) -> RunContext:
        """The context for attempts on AWS Batch, of the run as it is now. Blocks.

        Raises UsageError, AwsError, StoreError.
        """
        repository = self._repository
        queue, document = repository.find(name).queue, repository.stored_document(name)
        if queue is None:
            return context  # it can't be read any more: to open it says why
        return place.placed(context, wanted(document), queue.run_id)

    async def _take(
        self, attended: _Attended, context: RunContext, found: resume_from_store.StoredRun | None
    ) -> QueueEntry | None:
        """Lock a queue as it stands now; None if it is not to be worked on after all."""
        name, repository = attended.name, self._repository
        entry = await asyncio.to_thread(repository.find, name) if repository.exists(name) else None
        if entry is None or not self._candidates.is_ours(entry):
            return None
        if self._listener.why_not() is not None:
            return None
        attended.lock = repository.lock(entry.queue_id, "runner daemon")
        store = context.results
        if found is not None and store is not None and resume_from_store.is_new(entry):
            await asyncio.to_thread(resume_from_store.take_over, repository, entry, found, store)
            log.info("queue_taken_over", queue=name, where=found.where)
        self._listener.taking_up()
        if not attended.finishing:
            repository.set_current(name)
        return entry

    def _sweep_later(self) -> None:
        """Once a queue is left and for a while no other is taken up, nobody waits for a sweep."""
        if self._sweeping is not None:
            self._sweeping.cancel()
        self._sweeping = self._loop.call_later(SWEEP_AFTER, self._sweep)

    def _sweep(self) -> None:
        self._sweeping = None
        if self.idle:
            sweep()

    async def finish(self) -> None:
        """Return once every queue is left."""
        while self._tasks:
            await asyncio.wait(self._tasks)
        if self._sweeping is not None:
            self._sweeping.cancel()
        self._threads.shutdown(wait=False)
        self._more_threads.shutdown(wait=False)
        await asyncio.to_thread(self._batch.close)


def is_beside(meta: Mapping[str, str]) -> bool:
    """Whether a queue takes no place of those that others wait for: its jobs run on AWS Batch, or
    it is open, and may be so for days without a job."""
    return bool(meta.get(ON_BATCH_KEY)) or is_open_queue(meta)
