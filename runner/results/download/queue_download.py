"""Getting results back: what a store has of a queue, into a folder, file by file.

Owns that each file arrives as it was stored, and what is told if one doesn't. Must not know the
command line, nor who ran the queue.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from runner.errors import StateError
from runner.results.concurrency import at_once
from runner.results.download.download_plan import JobPlan, LogPart, Planner, WantedFile
from runner.results.download.log_parts import LogParts, join_parts
from runner.results.download.output_folder import OutputFolder, PlaceError, dress
from runner.results.file_copy import hash_file
from runner.results.layout import Layout
from runner.results.manifest import FileEntry
from runner.results.store import RefusedError, ResultStore, StoreError
from runner.results.stored_queue import StoredJob, StoredQueue

PASSES = 3
"""How often a job is looked at whose files change while they are fetched."""

AWAY_AFTER = 20
"""Calls in a row, each tried again, that fail until the store is taken to be away."""

AHEAD = 1000
"""Files that are begun, or done, behind a large one that isn't."""


@dataclass(slots=True)
class DownloadReport:
    """What came of it. `files`, `bytes`: what is in the folder now and belongs there.

    `problems` make it incomplete; `notes` don't. Both are one line each.
    """

    files: int = 0
    bytes: int = 0
    fetched: int = 0
    present: int = 0
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


Progress = Callable[[int, int], None]
"""Told, in one thread, how many bytes more are to be had, and how many have been dealt with."""


@dataclass(frozen=True, slots=True)
class _Outcome:
    """`there`: with `size` bytes. `stale`: it looks as if the job was stored anew meanwhile."""

    file: WantedFile
    there: bool
    size: int = 0
    fetched: bool = False
    problem: str | None = None
    stale: bool = False


def fetch(
    store: ResultStore,
    queue: StoredQueue,
    output: OutputFolder,
    jobs: Iterable[StoredJob],
    part: LogPart = LogPart.ALL,
    *,
    verify: bool = False,
    progress: Progress = lambda planned, done: None,
) -> DownloadReport:
    """Have what these jobs stored in the folder; with `verify` only compare, and write nothing.

    A file that is there as it was stored isn't fetched. Each is put in place as a whole; what else
    is in the folder stays. What can't be had is a problem of the report, and the rest comes. Raises
    StoreError where the store is away, and RunnerError where the folder has no room.
    """
    planner = Planner(store, queue, part, live=not verify)
    outage = _Outage()
    work = _Comparing(output) if verify else _Having(store, output, outage)
    return _Fetch(planner, work, queue, store.parallel, progress, outage).run(jobs)


class _Outage:
    """Tells a store that is away from objects that can't be had: so many failures in a row."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failures = 0
        self._away: StoreError | None = None

    def check(self) -> None:
        """Raise what the store was found to be away with: nothing more is asked of it."""
        if self._away is not None:
            raise self._away

    def failed(self, error: StoreError) -> None:
        """Raise it if nothing else can be expected of the store either."""
        if isinstance(error, RefusedError):
            return
        with self._lock:
            self._failures += 1
            if self._failures >= AWAY_AFTER:
                self._away = error
                raise error

    def ended(self) -> None:
        """The store has given something."""
        with self._lock:
            self._failures = 0


@dataclass(slots=True)
class _Fetch:
    """Goes through jobs and files, many at once, and counts."""

    planner: Planner
    work: _Comparing | _Having
    queue: StoredQueue
    parallel: int
    progress: Progress
    outage: _Outage
    report: DownloadReport = field(default_factory=DownloadReport)

    def run(self, jobs: Iterable[StoredJob]) -> DownloadReport:
        pool = ThreadPoolExecutor(self.parallel, thread_name_prefix="fetch")
        try:
            for left in reversed(range(PASSES)):
                changed = list(self._one_pass(pool, jobs, last=not left))
                jobs = [self.queue.jobs[job_id] for job_id in changed]
        except BaseException as error:
            # Who pressed Ctrl-C doesn't wait for the end of a large file.
            pool.shutdown(wait=isinstance(error, Exception), cancel_futures=True)
            raise
        pool.shutdown()
        return self.report

    def _one_pass(
        self, pool: ThreadPoolExecutor, jobs: Iterable[StoredJob], *, last: bool
    ) -> Iterator[str]:
        """Yields the jobs that seem to have been stored anew meanwhile; they aren't counted yet."""
        plans = at_once(pool, self._plan, jobs, 4 * self.parallel)

        def steps() -> Iterator[JobPlan | WantedFile]:
            for plan in plans:
                self.progress(plan.size, 0)
                yield plan
                yield from plan.files.values()

        def take(step: JobPlan | WantedFile) -> JobPlan | _Outcome:
            return step if isinstance(step, JobPlan) else self.work.deal_with(step)

        plan: JobPlan | None = None
        outcomes: list[_Outcome] = []
        for done in at_once(pool, take, steps(), AHEAD):
            if isinstance(done, _Outcome):
                self.progress(0, done.file.size)
                outcomes.append(done)
                continue
            if plan is not None and not self._settle(plan, outcomes, last):
                yield plan.job_id
            plan, outcomes = done, []
        if plan is not None and not self._settle(plan, outcomes, last):
            yield plan.job_id

    def _plan(self, job: StoredJob) -> JobPlan:
        self.outage.check()
        try:
            plan = self.planner.plan(job)
        except StoreError as error:
            self.outage.failed(error)
            return JobPlan(job.job_id, problems=[f"job {job.job_id}: {error}"])
        self.outage.ended()
        return plan

    def _settle(self, plan: JobPlan, outcomes: list[_Outcome], last: bool) -> bool:
        """Count a job whose files have been dealt with; False if it is to be done again."""
        if not last and any(each.stale for each in outcomes) and self._has_changed(plan):
            return False
        report = self.report
        report.problems += plan.problems
        report.notes += plan.notes
        for outcome in outcomes:
            if outcome.problem:
                report.problems.append(f"{outcome.file.told} {outcome.problem}")
            if outcome.there:
                report.files += 1
                report.bytes += outcome.size
                report.fetched += outcome.fetched
                report.present += not outcome.fetched
        return True

    def _has_changed(self, plan: JobPlan) -> bool:
        try:
            return self.planner.manifest(plan.job_id) != plan.manifest
        except (StateError, StoreError):
            return False


@dataclass(frozen=True, slots=True)
class _Comparing:
    """One file: is it as it was stored?"""

    output: OutputFolder

    def deal_with(self, file: WantedFile) -> _Outcome:
        assert isinstance(file.what, FileEntry)
        problem = self.output.difference(self.output.path_of(file), file.what, mend=False)
        return _Outcome(file, problem is None, file.size, problem=problem)


@dataclass(frozen=True, slots=True)
class _Having:
    """One file: see that it is there."""

    store: ResultStore
    output: OutputFolder
    outage: _Outage

    def deal_with(self, file: WantedFile) -> _Outcome:
        """Raises StoreError if the store is away, and RunnerError if there is no room."""
        path = self.output.path_of(file)
        self.outage.check()
        try:
            self.output.check(path)
            if isinstance(file.what, LogParts):
                return self._join(file, file.what, path)
            if self.output.difference(path, file.what, mend=True) is None:
                return _Outcome(file, True, file.size)
            # Bytes may be lost on the way: what isn't as it was stored is fetched once more.
            problem = self._get(file.what, path, last=False) and self._get(
                file.what, path, last=True
            )
        except PlaceError as error:
            return _Outcome(file, False, problem=str(error))
        except OSError as error:
            told = self.output.error(error)
            if not isinstance(told, PlaceError):
                raise told from error
            return _Outcome(file, False, problem=str(told))
        if problem:
            return _Outcome(file, False, problem=problem, stale=True)
        return _Outcome(file, True, file.size, fetched=True)

    def _get(self, file: FileEntry, path: bytes, *, last: bool) -> str | None:
        """Fetch a file; what is wrong, if it isn't what was stored: then nothing changed."""
        try:
            with self.output.replacing(path) as fd:
                if not self.store.get_file(file.key, fd, file.size):
                    raise _WrongError("is named in the manifest, but gone from the store")
                size = os.fstat(fd).st_size
                if size != file.size or hash_file(fd, size) != file.sha256:
                    raise _WrongError("is not in the store as the manifest says: other bytes")
                dress(fd, file)
        except _WrongError as wrong:
            return str(wrong)
        except StoreError as error:
            if last or isinstance(error, RefusedError):
                self.outage.failed(error)
            return f"can't be fetched: {error}"
        self.outage.ended()
        return None

    def _join(self, file: WantedFile, log: LogParts, path: bytes) -> _Outcome:
        scratch = self.output.folder_of(path)
        try:
            with self.output.replacing(path) as fd:
                joined = join_parts(self.store, log, fd, scratch)
                if joined.gone:
                    raise _WrongError("is incomplete: a part of it went away meanwhile")
                os.fchmod(fd, 0o644)
        except _WrongError as wrong:
            return _Outcome(file, False, problem=str(wrong), stale=True)
        except StoreError as error:
            self.outage.failed(error)
            return _Outcome(file, False, problem=f"can't be fetched: {error}", stale=True)
        self.outage.ended()
        return _Outcome(file, True, joined.size, fetched=True, problem=joined.problem)


class _WrongError(Exception):
    """What arrived isn't what the manifest names."""


def put_queue(
    store: ResultStore, queue: StoredQueue, output: OutputFolder, report: DownloadReport
) -> None:
    """Write the document and the state; afterwards the folder is known to hold this run.

    Raises RunnerError if there is no room.
    """
    layout = Layout()
    try:
        document = store.get_bytes(layout.document_key)
        if document is not None and output.has(layout.document_key):
            if _read(output, layout.document_key) != document:
                # It may be somebody's own: nobody asked for it to be written over.
                report.notes.append(f"{layout.document_key} is there and differs: left as it is")
        elif document is not None:
            output.put(layout.document_key, document, 0o600)
    except RefusedError as error:
        # A permission to look doesn't reach it: values of variables stand in it.
        report.notes.append(f"{layout.document_key} is left out: {error}")
    except (PlaceError, StoreError, OSError) as error:
        report.problems.append(f"{layout.document_key}: {error}")
    try:
        output.put(layout.state_key, queue.raw, 0o644)
    except (PlaceError, OSError) as error:
        report.problems.append(f"{layout.state_key}: {error}")


def _read(output: OutputFolder, name: str) -> bytes | None:
    try:
        return output.read(name)
    except OSError:
        return None
