"""Jobs that would do what they have done before: looked at, and noted when they have run.

Owns what a job is looked at with: its files, and those of the jobs that it depends on. How a look
is done, and what it goes by, is the business of ``results``; what follows, of the core.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from runner.core import events as ev
from runner.core.scheduler import Scheduler
from runner.core.states import JobState, JobStatus
from runner.engine.backend import StoreOwnership
from runner.engine.backoff import backoff
from runner.engine.call_threads import CallThreads
from runner.engine.clock import now
from runner.engine.context import EngineContext
from runner.model.document import JobSpec
from runner.results.claim import SucceededError
from runner.results.store import ResultStore, StoreError

if TYPE_CHECKING:
    # Imported where the first job has inputs: most queues have none.
    from runner.results.fingerprint.examination import Examined, FileSet, Subject
    from runner.results.fingerprint.hash_cache import HashCache
    from runner.results.fingerprint.record import CompletedRun

JOBS_AT_ONCE = 2

PATIENT_TRIES = 4
"""So often a store that doesn't answer is asked for a job's last run, before it runs again."""


FORMER = 50
"""Former runs in a results folder in which a job's last one is looked for."""


class _GivenUpError(Exception):
    """The session ends."""


class Fingerprints:
    """The looks of one session. ``post`` takes the events that come of them."""

    def __init__(
        self, context: EngineContext, scheduler: Scheduler, post: Callable[[ev.Event], None]
    ) -> None:
        self.ownership: StoreOwnership | None = None
        self._context = context
        self._scheduler = scheduler
        self._post = post
        self._loop = asyncio.get_running_loop()
        self._threads: CallThreads | None = None
        self._opening = threading.Lock()
        self._cache: HashCache | None = None
        self._former: dict[int, CompletedRun] = {}
        self._pending: set[int] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = threading.Event()

    # -- before a start ----------------------------------------------------------------------

    def subject(self, job: int) -> Subject:
        """What a job is looked at with, as it stands."""
        from runner.model.fingerprint import parts_of
        from runner.results.fingerprint.examination import FileSet, Subject

        scheduler, context = self._scheduler, self._context
        document, described = scheduler.document, scheduler.document.jobs[job]
        state = scheduler.jobs[job]
        folder = context.working_directory(document, described)
        own = (*described.inputs, *(each.path for each in described.input_paths))
        found = scheduler.arrays.of(job)
        parts = parts_of(document, described, None if found is None else found.spec.size)
        inputs, unknown = [FileSet(own, folder)], None
        for number, before in self._dependencies(job):
            left = self._left_by(before)
            if left is not None:
                inputs.append(left)
            elif number.status is JobStatus.COMPLETED:
                name = f"dependency '{before.job_id}', which declares no results,"
                parts[name] = self._run_of(number)
            if number.status is not JobStatus.COMPLETED:
                unknown = f"dependency '{before.job_id}' did not complete"
        if described.expands is not None:
            unknown = "it leaves further jobs"
        if described.keep_background:
            unknown = "it keeps processes in the background"
        return Subject(
            described.job_id,
            scheduler.queue.run_id,
            parts,
            tuple(inputs),
            FileSet(tuple(result.path for result in described.kept_paths), folder),
            context.paths.fingerprint(described.job_id),
            described.optional_paths,
            context.rights,
            self._own(),
            not context.reuse,
            again=state.status is JobStatus.INTERRUPTED or state.counted > 0,
            forced=state.forced,
            unknown=unknown,
        )

    def _dependencies(self, job: int) -> Iterator[tuple[JobState, JobSpec]]:
        """The units that a unit depends on, those of an array one by one."""
        scheduler = self._scheduler
        for before in scheduler.graph.dependencies[job]:
            is_array = scheduler.frontier.is_array(before)
            for unit in scheduler.graph.dependencies[before] if is_array else (before,):
                yield scheduler.jobs[unit], scheduler.document.jobs[unit]

    def _left_by(self, job: JobSpec) -> FileSet | None:
        from runner.results.fingerprint.examination import FileSet

        if not job.kept_paths:
            return None
        folder = self._context.working_directory(self._scheduler.document, job)
        patterns = tuple(result.path for result in job.kept_paths)
        return FileSet(patterns, folder, f"{job.job_id}: ")

    def _run_of(self, state: JobState) -> str:
        return state.origin or f"{self._scheduler.queue.run_id}/{state.attempt}"

    def _own(self) -> frozenset[str]:
        folder = self._store_folder
        return self._context.own | {folder} if folder else self._context.own

    @property
    def _store_folder(self) -> str | None:
        store = self._context.results
        return None if store is None else store.local_folder

    def examine(
        self, job: int, subject: Subject, tries: int, check: Callable[[], None]
    ) -> Examined:
        """Whether the job's last results stand. Blocks, in any thread. Raises StoreError."""
        from runner.results.fingerprint.examination import Examined, examine

        try:
            found = examine(subject, self._stores(), self._hashes(), check)
        except StoreError as error:
            if tries < PATIENT_TRIES:
                raise
            return Examined(why=f"its last run is not known: {error}")
        except OSError as error:
            return Examined(why=f"its last run can't be looked at: {error}")
        if found.unchanged is not None:
            self._former[job] = found.unchanged
        return found

    def _store(self) -> ResultStore:
        """Where the records of completed runs are."""
        if self._context.results is not None:
            return self._context.results
        from runner.results.folder import FolderStore

        return FolderStore(self._context.paths.completed_runs(self._context.queue_id))

    def _stores(self) -> list[ResultStore]:
        """The same, and behind it those of former runs."""
        store = self._store()
        if self._context.results is None or (folder := store.local_folder) is None:
            return [store]
        from runner.results.folder import FolderStore
        from runner.results.runs import former_runs

        return [store, *map(FolderStore, former_runs(Path(folder))[:FORMER])]

    def _hashes(self) -> HashCache:
        from runner.results.fingerprint.hash_cache import HashCache

        with self._opening:
            if self._cache is None:
                self._cache = HashCache(self._context.paths.hashes)
            return self._cache

    # -- after an end ------------------------------------------------------------------------

    def seal(self, job: int, attempt: int, subject: Subject) -> None:
        """A command has ended well: note that it has ended with what it began with. Blocks, in any
        thread; before that end is told."""
        from runner.results.fingerprint.examination import seal

        try:
            changed = seal(subject, attempt, self._hashes())
        except Exception as error:  # whatever it is, the job itself has ended well
            changed = (f"what it has read can't be looked at: {error!r}",)
        if changed:
            why = "; ".join(changed)
            self._loop.call_soon_threadsafe(lambda: self._post(ev.InputsChanged(now(), job, why)))

    def keep(self, job: int, tries: int = 0) -> None:
        """A job has completed: keep what a later run goes by, however often it has to be tried."""
        if self._closed.is_set():
            return
        state = self._scheduler.jobs[job]
        if state.status is not JobStatus.COMPLETED:
            return
        if self._threads is None:
            self._threads = CallThreads(JOBS_AT_ONCE, "fingerprints", None)
        self._idle.clear()
        self._pending.add(job)
        subject, former = self.subject(job), self._former.get(job)
        work = self._loop.run_in_executor(
            self._threads, self._keep, subject, state.attempt, former, state.taken_from
        )
        work.add_done_callback(lambda future: self._kept(job, tries, future))

    def _kept(self, job: int, tries: int, future: asyncio.Future[None]) -> None:
        error = None if future.cancelled() else future.exception()
        if isinstance(error, StoreError | OSError) and not self._closed.is_set():
            self._loop.call_later(backoff(tries + 1), self.keep, job, tries + 1)
            return
        if error is not None and not self._closed.is_set():
            why = f"what it made can't be noted: {type(error).__name__}: {error}"
            self._post(ev.InputsChanged(now(), job, why))
        self._former.pop(job, None)
        self._pending.discard(job)
        if not self._pending:
            self._idle.set()

    def _keep(
        self, subject: Subject, attempt: int, former: CompletedRun | None, taken_from: str | None
    ) -> None:
        from runner.results.fingerprint.examination import complete, retain
        from runner.results.fingerprint.record import read_completed

        store = self._store()
        try:
            if self.ownership is not None and self._context.results is not None:
                self.ownership.own()
            if taken_from is None:
                complete(subject, attempt, store, self._hashes(), self._check)
                return
            if former is not None:
                retain(subject, former, attempt, store)
                return
            found = read_completed(self._stores(), subject.job_id)
            if found is not None and f"{found.run_id}/{found.attempt}" == taken_from:
                retain(subject, found, attempt, store)
        except (SucceededError, _GivenUpError):
            return  # it is another machine's, or the next session's

    def _check(self) -> None:
        if self._closed.is_set():
            raise _GivenUpError

    async def finish(self, until: float) -> None:
        """At the end of a session: what is being kept is, by the loop's time ``until``."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), max(0.0, until - self._loop.time()))

    def stop(self) -> None:
        """Begin nothing more, and have what is under way end."""
        self._closed.set()
        if self._threads is not None:
            self._threads.stop()

    def join(self) -> None:
        """Wait for what is under way. Blocks; after ``stop``."""
        if self._threads is not None:
            self._threads.join()
        if self._cache is not None:
            self._cache.close()
