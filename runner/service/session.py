"""One session of work on one queue: from its database to an engine, and back.

The caller holds the queue's lock. Nothing here decides when a session begins or why.
"""

from __future__ import annotations

import asyncio
import os
from asyncio import FIRST_COMPLETED
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from runner.core import events as ev
from runner.core.clock_shift import difference, shifted
from runner.core.scheduler import Scheduler, StoryEntry
from runner.core.states import QueueStatus
from runner.engine.clock import now
from runner.engine.context import EngineContext, MakeBackend
from runner.engine.courier import Courier
from runner.engine.engine import Engine
from runner.engine.recorded_attempts import end_every_attempt
from runner.errors import DiskError, StateError, UsageError
from runner.model.document import FIT, JobSpec, QueueSpec
from runner.model.elements import unit_count
from runner.model.graph import Graph
from runner.model.notify import joined
from runner.model.settings import Settings
from runner.process.forker_client import ForkerHolder
from runner.process.identity import boot_id
from runner.process.shim_protocol import User
from runner.results.layout import Layout
from runner.results.runs import set_former_run_aside
from runner.results.store import ResultStore
from runner.rights import Rights
from runner.service.lost_steps import make_good
from runner.service.queue_repository import NO_REUSE, QueueRepository
from runner.service.state_files import write_state_file
from runner.store.database import Database, Loaded
from runner.store.folder_id import folder_id
from runner.store.paths import StatePaths, make_owned, resolved

LET_GO = "the queue was let go just now; try again"

JOURNAL_AFTER = "journal_after"
"""The key of ``meta`` under which it is noted from which part of a journal a state was taken."""

_CLOCK = "clock"
"""The same for the clocks that the records' times are of: boot, wall and monotonic seconds."""

WORK_DIR = "work_dir"
"""The key under which a foreground run's folder is remembered."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class RunContext:
    """Where and as what a session's jobs run.

    ``work_dir`` None: the queue's own work folder; ``rights`` None: ours;
    ``jobs_unit``: the folder of the unit that they live in, None: they live where we do;
    ``heartbeat``: how often the store is told that this machine, ``instance``, works on it;
    ``backend`` makes what attempts run in, None: processes of this machine; ``fit``: how many jobs
    run at once where the document says "fit", None: as many as this machine has processors;
    ``max_parallel``: how many whatever the document says.
    ``journal``: each step is in the store before it is acted upon, so that another driver goes on
    from exactly there. ``courier``: who sends notices, None: nobody is told.
    ``forkers``: see ForkerHolder.
    """

    environment: dict[str, str]
    work_dir: str | None
    rights: Rights | None = None
    results: ResultStore | None = None
    jobs_unit: str | None = None
    heartbeat: float | None = None
    instance: Callable[[], str | None] = lambda: None
    backend: MakeBackend | None = None
    fit: int | None = None
    max_parallel: int | None = None
    journal: bool = False
    courier: Courier | None = None
    forkers: ForkerHolder | None = None


class _Opened:
    """A queue's state, read and checked, on which nobody works yet."""

    def __init__(
        self,
        repository: QueueRepository,
        settings: Settings,
        name: str,
        context: RunContext,
        document: QueueSpec | None = None,
    ) -> None:
        paths = repository.queue_paths(name)
        self.name = name
        self.spot_notice = paths.spot_notice
        self.database = Database(paths.database, durable=paths.durable)
        try:
            if document is None or self.database.added():
                document = self.database.read_document()
            if document.given is not None:
                from runner.service.given_files import write_given

                write_given(paths, document)
            loaded = self.database.load(unit_count(document.jobs))
            made_good = make_good(paths, self.database, document, loaded)
            self.brought_back = made_good is not None
            loaded = made_good or loaded
            journal_after = loaded.meta.get(JOURNAL_AFTER)
            if context.journal:
                loaded = _on_this_clock(self.database, loaded)
            self.queue_id = loaded.queue_id
            self.scheduler = Scheduler(
                document,
                Graph(document.jobs),
                loaded.queue,
                loaded.jobs,
                fit=_fit(document, context),
            )
            if context.max_parallel is not None:
                self.scheduler.most = context.max_parallel
            if context.courier is not None:
                self.scheduler.targets = joined(document.notify, settings.notify)
            work_dir = context.work_dir
            if work_dir is not None:
                self._remember(loaded.meta, work_dir)
            else:
                _take_staged(repository.paths.staged_work(name), paths.work)
                uid, gid, _ = context.rights or (os.geteuid(), os.getegid(), ())
                make_owned(paths.work, uid, gid)
                work_dir = str(paths.work)
            logs = repository.log_paths(name)
            logs.jobs.mkdir(parents=True, exist_ok=True)
            self.engine_context = EngineContext(
                paths=paths,
                logs=logs,
                queue_id=self.queue_id,
                work_dir=work_dir,
                environment=context.environment,
                jobs_unit=context.jobs_unit,
                rights=context.rights,
                # Half of it is waited, the other half is for the writing.
                projection_interval=settings.projection_interval / 2,
                disk_reserve=settings.disk_reserve,
                results=_set_aside_former(context.results, loaded.queue.run_id),
                upload_wait=settings.upload_wait,
                upload_timeout=settings.upload_timeout,
                live_log_interval=settings.live_log_interval,
                heartbeat=context.heartbeat,
                instance=context.instance,
                folder_id=_folder_id(repository.paths) if context.results else b"",
                own=resolved(*repository.paths.own, *paths.own, *logs.own, settings.run_dir),
                backend=context.backend,
                reuse=NO_REUSE not in loaded.meta,
                journal=context.journal,
                journal_after=int(journal_after) if journal_after else None,
                courier=context.courier,
                forkers=context.forkers,
            )
            # Of an earlier machine, or of one that was not taken away after all.
            paths.spot_notice.unlink(missing_ok=True)
        except BaseException:
            self.database.close()
            raise

    def _remember(self, meta: Mapping[str, str], work_dir: str) -> None:
        """Relative result paths are meant from there, also by who uploads them later."""
        if meta.get(WORK_DIR) != work_dir:
            with suppress(DiskError):
                self.database.write_meta({WORK_DIR: work_dir})


class Session:
    """An open queue with its engine. Close it, also after an error.

    It belongs to the loop it is made in. A daemon gives each queue a thread with a loop of its own,
    so that nothing slow in one holds up another; ``tell``, ``detach``, ``request`` and ``look`` may
    be called from any loop. ``elsewhere``: its attempts don't run on this machine. Raises
    StateError, DiskError, OSError; of a large queue opening takes seconds.
    """

    def __init__(
        self,
        repository: QueueRepository,
        settings: Settings,
        name: str,
        context: RunContext,
        observe: Callable[[list[StoryEntry]], None] | None = None,
        document: QueueSpec | None = None,
    ) -> None:
        opened = _Opened(repository, settings, name, context, document)
        self.loop = asyncio.get_running_loop()
        self.over: Future[None] = Future()
        self.name = name
        self.queue_id = opened.queue_id
        self.spot_notice = opened.spot_notice
        self.elsewhere = context.backend is not None
        self.names = opened.scheduler.names
        self.timeouts = opened.scheduler.timeouts
        self.database = opened.database
        try:
            self.engine = Engine(
                opened.engine_context,
                self.database,
                opened.scheduler,
                observe,
                brought_back=opened.brought_back,
            )
        except BaseException:
            self.database.close()
            raise

    @property
    def scheduler(self) -> Scheduler:
        return self.engine.scheduler

    async def run(
        self,
        *before: Callable[[ev.Now], ev.Event],
        hold: bool = False,
        starts_after: asyncio.Future[None] | None = None,
    ) -> QueueStatus:
        """Work until the queue has ended, is interrupted, or is detached; see Engine.run."""
        return await self.engine.run(*before, hold=hold, starts_after=starts_after)

    def close(self) -> None:
        """Give back all it holds. Blocks."""
        try:
            self.engine.close()
        finally:
            self.database.close()

    # -- from any loop -----------------------------------------------------------------------

    def tell(self, make: Callable[[ev.Now], ev.Event]) -> None:
        """Have an event handled soon, if the session still is there then."""
        self._call(lambda: self.engine.post(make(self.engine.now())))

    def detach(self) -> None:
        """Have the session end, its jobs going on."""
        self._call(self.engine.detach)

    def _call(self, call: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # its loop is closed: it has ended
            self.loop.call_soon_threadsafe(call)

    async def request(
        self, make: Callable[[ev.Now], ev.Event], request_id: str | None = None
    ) -> None:
        """Have an event handled, and wait until what came of it is durable. Raises StateError.

        ``request_id`` is stored in the same step: see ``carried_out``.
        """
        await self.inside(lambda: self.engine.request(make(self.engine.now()), request_id))

    async def add_jobs(self, jobs: Sequence[JobSpec], request_id: str | None = None) -> range:
        """Add jobs to the queue as it runs; returns the numbers of their units once they are
        durable. They may depend on each other, and on any that are there.

        ``request_id`` is stored in the same step. Raises DocumentError with every fault, and
        nothing is added then; StateError where the queue has ended.
        """
        return await self.inside(lambda: self.engine.added_jobs.add(tuple(jobs), request_id))

    async def set_intake(self, accepts: bool) -> None:
        """Have the queue stay when nothing is left to do (``accepts``), or end then: durable when
        this returns. Raises StateError."""
        await self.request(lambda now: ev.IntakeChanged(now, accepts))

    def carried_out(self, request_id: str) -> bool:
        """Whether a request with this id has been handled. On the session's loop."""
        return self.engine.carried_out(request_id)

    async def look(self, view: Callable[[], _T]) -> _T:
        """What ``view`` returns, called between two steps. Raises StateError, and what it does."""

        async def call() -> _T:
            return view()

        return await self.inside(call)

    async def inside(self, call: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        """Have it run on the session's loop. Raises StateError, and what it does."""
        if asyncio.get_running_loop() is self.loop:
            return await call()
        asked = call()
        try:
            answer = asyncio.run_coroutine_threadsafe(asked, self.loop)
        except RuntimeError:
            asked.close()
            raise StateError(LET_GO) from None
        answered = asyncio.wrap_future(answer)
        either: list[asyncio.Future[Any]] = [answered, asyncio.wrap_future(self.over)]
        await asyncio.wait(either, return_when=FIRST_COMPLETED)
        if not answered.done() or answered.cancelled():
            # The loop has ended: what it had not begun it never will.
            with suppress(RuntimeError, ValueError):
                asked.close()
            raise StateError(LET_GO)
        return answered.result()


def _folder_id(paths: StatePaths) -> bytes:
    return folder_id(paths.folder_id, durable=paths.durable)


def _fit(document: QueueSpec, context: RunContext) -> int:
    if document.max_parallel_jobs != FIT:
        return 1
    from runner.host.processors import usable_processors

    return usable_processors() if context.fit is None else context.fit


def _on_this_clock(database: Database, loaded: Loaded) -> Loaded:
    """What was loaded, its monotonic times on this boot's clock: attempts elsewhere have gone on
    while this machine was down. Raises DiskError, StateError."""
    boot, moment = boot_id(), now()
    before, _, told = loaded.meta.get(_CLOCK, "").partition(" ")
    if before and before != boot:
        wall, mono = map(float, told.split())
        seconds = difference(ev.Now(wall, mono), moment)
        queue, jobs = shifted(loaded.queue, loaded.jobs, seconds)
        database.replace_all(database.document(), queue, sorted(jobs.items()))
        loaded = replace(loaded, queue=queue, jobs=jobs)
    # From now on the newest part is this state folder's own, and tells where the journal stands.
    database.write_meta({_CLOCK: f"{boot} {moment.wall!r} {moment.mono!r}", JOURNAL_AFTER: ""})
    return loaded


def _take_staged(staged: Path, work: Path) -> None:
    """What was laid out for the queue before it was submitted becomes its work folder."""
    if staged.is_dir() and not work.exists():
        os.rename(staged, work)


def _set_aside_former(store: ResultStore | None, run_id: str) -> ResultStore | None:
    """The store, without another run's files in its way. Raises UsageError if they can't be moved.

    In S3 moving is copying: there the new run's files replace the former's, job by job.
    """
    if store is not None and store.local_folder is not None:
        folder = Path(store.describe())
        try:
            set_former_run_aside(folder, Layout(), run_id)
        except OSError as error:
            told = f"{folder}: a former run can't be moved aside: {error.strerror}"
            raise UsageError(told) from None
    return store


def apply_resting(
    repository: QueueRepository,
    settings: Settings,
    name: str,
    context: RunContext,
    make: Callable[[ev.Now], ev.Event],
) -> None:
    """Apply a request that starts and ends nothing (pause, retry) to an idle queue."""
    session = Session(repository, settings, name, context)
    try:
        session.engine.apply_resting(make)
    finally:
        session.close()


async def end_attempts(
    repository: QueueRepository, settings: Settings, queue_id: str, context: RunContext
) -> None:
    """End what still runs of a queue, in an orderly way, before it is set aside."""
    try:
        silent = replace(context, results=None, journal=False, courier=None)
        session = Session(repository, settings, queue_id, silent)
    except StateError:
        # Unreadable, and --fresh is the way out of that: only the record of attempts is left.
        await _end_recorded(repository, queue_id, context)
        return
    try:
        if session.scheduler.live or session.scheduler.background:
            await session.run(lambda now: ev.InterruptRequested(now, "--fresh"))
    finally:
        session.close()
    # And what the state knows nothing of: it may be older than its jobs.
    await _end_recorded(repository, queue_id, context)
    # A killed session may not have come to it, and nobody takes up what was set aside.
    write_state_file(repository.queue_paths(queue_id))


async def _end_recorded(repository: QueueRepository, queue_id: str, context: RunContext) -> None:
    shim_records = repository.queue_paths(queue_id).shim_records
    user = None if context.rights is None else User(*context.rights)
    await asyncio.to_thread(end_every_attempt, shim_records, user, context.jobs_unit)
