"""Getting results back: what a store has of a queue, into a folder, file by file.

Owns which files belong there, that each arrives as it was stored, and what is told if one doesn't.
Must not know the command line, nor who ran the queue.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import Enum

from runner.errors import StateError
from runner.results.at_once import at_once
from runner.results.copying import hash_file
from runner.results.escape import shown
from runner.results.layout import Layout
from runner.results.log_parts import LogParts, find_parts, join_parts
from runner.results.manifest import FileEntry, Manifest
from runner.results.output import OutputFolder, PlaceError, difference, dress
from runner.results.placing import replacing
from runner.results.store import ResultStore, StoreError
from runner.results.stored import StoredJob, StoredQueue, read_manifest

_PASSES = 3
"""How often a job is looked at whose files change while they are fetched."""


class Part(Enum):
    """Which of a job's files are wanted."""

    ALL = "all"
    LOGS = "logs"
    RESULTS = "results"


@dataclass(slots=True)
class Report:
    """What came of it. `files`, `bytes`: what is in the folder now and belongs there.

    `problems` make it incomplete; `notes` don't. Both are one line each, and printable.
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
class _Item:
    """One file to have in the folder: an entry of a manifest, or a log in parts."""

    job_id: str
    name: str
    path: bytes
    what: FileEntry | LogParts

    @property
    def size(self) -> int:
        return self.what.size

    @property
    def told(self) -> str:
        return f"job {self.job_id}: {shown(self.name)}"


@dataclass(frozen=True, slots=True)
class _Outcome:
    """`there`: with `size` bytes. `stale`: it looks as if the job was stored anew meanwhile."""

    item: _Item
    there: bool
    size: int = 0
    fetched: bool = False
    problem: str | None = None
    stale: bool = False


@dataclass(slots=True)
class _Plan:
    """A job's part of it."""

    job_id: str
    manifest: Manifest | None = None
    items: list[_Item] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def fetch(
    store: ResultStore,
    queue: StoredQueue,
    output: OutputFolder,
    jobs: Iterable[StoredJob],
    part: Part = Part.ALL,
    *,
    verify: bool = False,
    progress: Progress = lambda planned, done: None,
) -> Report:
    """Have what these jobs stored in the folder; with `verify` only compare, and write nothing.

    A file that is there as it was stored isn't fetched. Each is put in place as a whole; what else
    is in the folder stays. Raises StoreError, and RunnerError where the folder has no room.
    """
    return _Fetch(store, queue, output, part, verify, progress).run(jobs)


@dataclass(slots=True)
class _Fetch:
    store: ResultStore
    queue: StoredQueue
    output: OutputFolder
    part: Part
    verify: bool
    progress: Progress
    layout: Layout = field(default_factory=Layout)
    report: Report = field(default_factory=Report)

    def run(self, jobs: Iterable[StoredJob]) -> Report:
        pool = ThreadPoolExecutor(self.store.parallel, thread_name_prefix="fetch")
        try:
            changed = list(self._one_pass(pool, jobs, last=False))
            for number in range(_PASSES - 1):
                again = [self.queue.jobs[job_id] for job_id in changed]
                changed = list(self._one_pass(pool, again, last=number == _PASSES - 2))
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
        ahead = 4 * self.store.parallel
        plans = at_once(pool, self._plan, jobs, ahead)
        work = self._compare if self.verify else self._have
        outcomes: list[_Outcome] = []
        current: list[_Plan] = []

        def items() -> Iterator[_Item | _Plan]:
            for plan in plans:
                self.progress(sum(item.size for item in plan.items), 0)
                yield plan
                yield from plan.items

        def deal_with(item: _Item | _Plan) -> _Outcome | _Plan:
            return item if isinstance(item, _Plan) else work(item)

        for done in at_once(pool, deal_with, items(), ahead):
            if isinstance(done, _Plan):
                yield from self._settle(current, outcomes, last)
                current, outcomes = [done], []
            else:
                self.progress(0, done.item.size)
                outcomes.append(done)
        yield from self._settle(current, outcomes, last)

    def _settle(self, plans: list[_Plan], outcomes: list[_Outcome], last: bool) -> Iterator[str]:
        """Count a job whose files have all been dealt with, unless it is to be done again."""
        report = self.report
        for plan in plans:
            if not last and any(each.stale for each in outcomes) and self._has_changed(plan):
                yield plan.job_id
                continue
            report.problems += plan.problems
            report.notes += plan.notes
            for outcome in outcomes:
                if outcome.problem:
                    report.problems.append(f"{outcome.item.told} {outcome.problem}")
                if not outcome.there:
                    continue
                report.files += 1
                report.bytes += outcome.size
                report.fetched += outcome.fetched
                report.present += not outcome.fetched

    def _has_changed(self, plan: _Plan) -> bool:
        try:
            return read_manifest(self.store, self.layout, self.queue, plan.job_id) != plan.manifest
        except StateError:
            return False

    # -- which files ---------------------------------------------------------------------------

    def _plan(self, job: StoredJob) -> _Plan:
        plan = _Plan(job.job_id)
        if not (job.attempt or self.queue.unfinished):
            return plan  # it never ran
        try:
            plan.manifest = read_manifest(self.store, self.layout, self.queue, job.job_id)
        except StateError as error:
            plan.problems.append(f"job {job.job_id}: {error}")
        manifest = plan.manifest
        stored = manifest.attempt if manifest else 0
        newest = max(job.attempt, stored)
        files = manifest.files if manifest else ()
        logs = {(file.attempt, self.layout.stream_of(file.name)) for file in files}
        paths: set[bytes] = set()
        for file in files:
            self._add_file(plan, paths, file, newest)
        if newest > stored and self.part is not Part.RESULTS and not self.verify:
            for log in find_parts(self.store, self.layout, job.job_id):
                if log.attempt <= newest and (log.attempt, log.stream) not in logs:
                    name = self.layout.log_name(log.attempt, newest, log.stream)
                    self._add(plan, paths, name, log)
        self._tell(plan, job, stored)
        return plan

    def _add_file(self, plan: _Plan, paths: set[bytes], file: FileEntry, newest: int) -> None:
        stream = self.layout.stream_of(file.name)
        if self.part is not Part.ALL and (stream is not None) != (self.part is Part.LOGS):
            return
        if stream is None:
            name = self.layout.local_name(file.name)
        else:
            # It may have been the newest attempt's when it was stored, and not be any more.
            name = self.layout.log_name(file.attempt, newest, stream)
        self._add(plan, paths, name, file)

    def _add(self, plan: _Plan, paths: set[bytes], name: str, what: FileEntry | LogParts) -> None:
        path = self.output.path(f"{plan.job_id}/{name}")
        item = _Item(plan.job_id, name, path, what)
        if path in paths:
            plan.problems.append(f"{item.told} is stored twice: only the first counts")
            return
        paths.add(path)
        plan.items.append(item)

    def _tell(self, plan: _Plan, job: StoredJob, stored: int) -> None:
        if plan.manifest is not None:
            told = (f"job {job.job_id}: when stored: {why}" for why in plan.manifest.problems)
            plan.notes += told
        missing = stored < job.attempt
        if not job.should_be_stored or not (missing or job.uploaded is False):
            return
        if not self.queue.unfinished:
            plan.problems.append(f"job {job.job_id}: results were not uploaded")
        elif missing:
            plan.notes.append(f"job {job.job_id}: results were not uploaded yet")

    # -- one file ------------------------------------------------------------------------------

    def _compare(self, item: _Item) -> _Outcome:
        assert isinstance(item.what, FileEntry)
        problem = difference(item.path, item.what, mend=False)
        return _Outcome(item, problem is None, item.size, problem=problem)

    def _have(self, item: _Item) -> _Outcome:
        """See that the file is there. Raises StoreError, RunnerError."""
        try:
            self.output.check(item.path)
            if isinstance(item.what, LogParts):
                return self._join(item, item.what)
            if difference(item.path, item.what, mend=True) is None:
                return _Outcome(item, True, item.size)
            return self._get(item, item.what)
        except PlaceError as error:
            return _Outcome(item, False, problem=str(error))
        except OSError as error:
            told = self.output.error(error)
            if not isinstance(told, PlaceError):
                raise told from error
            return _Outcome(item, False, problem=str(told))

    def _get(self, item: _Item, file: FileEntry) -> _Outcome:
        problem = self._try_to_get(item, file, last=False)
        if problem:
            problem = self._try_to_get(item, file, last=True)
        if problem:
            return _Outcome(item, False, problem=problem, stale=True)
        return _Outcome(item, True, file.size, fetched=True)

    def _try_to_get(self, item: _Item, file: FileEntry, *, last: bool) -> str | None:
        """Fetch a file; what is wrong, if it isn't what was stored: then nothing changed."""
        try:
            with replacing(item.path, durable=False) as fd:
                if not self.store.get_file(file.key, fd):
                    raise _WrongError("is named in the manifest, but gone from the store")
                size = os.fstat(fd).st_size
                if size != file.size or hash_file(fd, size) != file.sha256:
                    raise _WrongError("is not in the store as the manifest says: other bytes")
                dress(fd, file)
        except _WrongError as wrong:
            return str(wrong)
        except StoreError:
            if last:
                raise
            return "can't be fetched"
        return None

    def _join(self, item: _Item, log: LogParts) -> _Outcome:
        scratch = os.fsdecode(os.path.dirname(item.path))
        os.makedirs(scratch, exist_ok=True)
        try:
            with replacing(item.path, durable=False) as fd:
                joined = join_parts(self.store, log, fd, scratch)
                if joined.gone:
                    raise _WrongError("is incomplete: a part of it went away meanwhile")
                os.fchmod(fd, 0o644)
        except _WrongError as wrong:
            return _Outcome(item, False, problem=str(wrong), stale=True)
        problem = joined.gap and "ends at byte {}: what follows begins at {}".format(*joined.gap)
        return _Outcome(item, True, joined.size, fetched=True, problem=problem or None)


class _WrongError(Exception):
    """What arrived isn't what the manifest names."""


def put_queue(store: ResultStore, queue: StoredQueue, output: OutputFolder, report: Report) -> None:
    """Write the document and the state; afterwards the folder is known to hold this run.

    Raises StoreError, and RunnerError if there is no room.
    """
    layout = Layout()
    known = os.path.lexists(output.path(layout.state_key))
    try:
        document = store.get_bytes(layout.document_key)
        if document is not None and not known and os.path.lexists(output.path(layout.document_key)):
            # Somebody's own document: nobody asked for it to be written over.
            report.notes.append(f"{layout.document_key} is there already: left as it is")
        elif document is not None:
            output.put(layout.document_key, document, 0o600)
        output.put(layout.state_key, queue.raw, 0o644)
    except PlaceError as error:
        report.problems.append(f"{layout.state_key}: {error}")
