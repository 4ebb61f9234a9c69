"""Which files of a job belong into the folder that results are fetched into, and what is amiss.

Owns the choice, and the names they get there. Must not know how a file is fetched.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from runner.core.states import JobStatus
from runner.errors import StateError
from runner.results.download.log_parts import LogParts, find_parts
from runner.results.escape import shown
from runner.results.layout import Layout
from runner.results.manifest import FileEntry, Manifest
from runner.results.store import ResultStore, StoreError
from runner.results.stored_queue import StoredJob, StoredQueue, read_manifest


class LogPart(Enum):
    """Which of a job's files are wanted."""

    ALL = "all"
    LOGS = "logs"
    RESULTS = "results"


@dataclass(frozen=True, slots=True)
class WantedFile:
    """One file to have: an entry of a manifest, or a log in parts. `name` is below the job's."""

    job_id: str
    name: str
    what: FileEntry | LogParts

    @property
    def size(self) -> int:
        return self.what.size

    @property
    def told(self) -> str:
        return f"job {self.job_id}: {shown(self.name)}"


@dataclass(slots=True)
class JobPlan:
    """A job's files, and what is to be told of it; `manifest` is what it was made from."""

    job_id: str
    manifest: Manifest | None = None
    files: dict[str, WantedFile] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files.values())


class Planner:
    """Reads what a store has of a queue's jobs. ``live``: logs that are in parts, too."""

    def __init__(
        self, store: ResultStore, queue: StoredQueue, part: LogPart, *, live: bool
    ) -> None:
        self._store = store
        self._queue = queue
        self._part = part
        self._live = live and part is not LogPart.RESULTS
        self._layout = Layout()

    def plan(self, job: StoredJob) -> JobPlan:
        """What to have of a job. Raises StoreError."""
        plan = JobPlan(job.job_id)
        taken_over = job.status is JobStatus.COMPLETED
        if not (job.attempt or taken_over or self._queue.unfinished):
            return plan  # it never ran
        try:
            plan.manifest = self.manifest(job.job_id)
        except StateError as error:
            plan.problems.append(f"job {job.job_id}: {error}")
        stored = plan.manifest.attempt if plan.manifest else 0
        files = plan.manifest.files if plan.manifest else ()
        whole = {(file.attempt, self._layout.stream_of(file.name)) for file in files}
        newest = max(job.attempt, stored)
        live: list[LogParts] = []
        if self._live and len({log for log in whole if log[1]}) < 2 * newest:
            found = self._find_parts(plan)
            live = [log for log in found if (log.attempt, log.stream) not in whole]
            # What is stored last before a machine vanishes is a log, and not the state.
            newest = max(newest, *(log.attempt for log in live)) if live else newest
        for file in files:
            self._add_file(plan, file, newest)
        for log in live:
            self._add(plan, self._layout.log_name(log.attempt, newest, log.stream), log)
        self._tell(plan, job, stored)
        return plan

    def _find_parts(self, plan: JobPlan) -> list[LogParts]:
        try:
            return find_parts(self._store, self._layout, plan.job_id)
        except StoreError as error:
            plan.problems.append(f"job {plan.job_id}: logs in parts can't be looked for: {error}")
            return []

    def manifest(self, job_id: str) -> Manifest | None:
        """See read_manifest."""
        return read_manifest(self._store, self._layout, self._queue, job_id)

    def _add_file(self, plan: JobPlan, file: FileEntry, newest: int) -> None:
        stream = self._layout.stream_of(file.name)
        if file.output:
            return  # it is there for other jobs
        if self._part is not LogPart.ALL and (stream is not None) != (self._part is LogPart.LOGS):
            return
        if stream is None:
            self._add(plan, self._layout.local_name(file.name), file)
        else:
            # It may have been the newest attempt's when it was stored, and not be any more.
            self._add(plan, self._layout.log_name(file.attempt, newest, stream), file)

    def _add(self, plan: JobPlan, name: str, what: FileEntry | LogParts) -> None:
        wanted = WantedFile(plan.job_id, name, what)
        if name in plan.files:
            plan.problems.append(f"{wanted.told} is stored twice: only the first counts")
        else:
            plan.files[name] = wanted

    def _tell(self, plan: JobPlan, job: StoredJob, stored: int) -> None:
        manifest, name = plan.manifest, f"job {job.job_id}"
        lacking = [each.why for each in manifest.missing] if manifest else []
        # Who wants logs alone misses nothing.
        missed = plan.notes if self._part is LogPart.LOGS else plan.problems
        missed += [f"{name}: {why}" for why in lacking]
        for why in manifest.problems if manifest else ():
            if why not in lacking:
                plan.notes.append(f"{name}: when stored: {why}")
        missing = stored < job.attempt
        unstored = job.incomplete and not lacking
        if not job.should_be_stored or not (missing or unstored):
            return
        if not self._queue.unfinished:
            plan.problems.append(f"{name}: results were not uploaded")
        elif missing:
            plan.notes.append(f"{name}: results were not uploaded yet")
