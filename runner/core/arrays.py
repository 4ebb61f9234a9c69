"""Arrays as they stand: what follows from the records of their elements, kept in step with them.

An array has no record of its own. Owns the counts of each array, which of its elements run, have
failed or were tried again, and how many jobs (an array is one) stand where. A change of an element
costs the same however many there are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from runner.core.states import ENDED, PENDING, WAITING, JobState, JobStatus
from runner.model.elements import ArrayUnits, size_of
from runner.model.queue import QueueSpec

_BEFORE_ITS_END = (JobStatus.RUNNING, JobStatus.INTERRUPTED, JobStatus.PENDING)
_ORDER = (
    *_BEFORE_ITS_END,
    JobStatus.FAILED,
    JobStatus.CANCELLED,
    JobStatus.SKIPPED,
    JobStatus.COMPLETED,
)
"""An array stands as the first of these that one of its elements does."""


class ArrayState:
    """One array. ``status``: where it stands as one job; ``ended``: all of its elements have.

    ``running``, ``failed`` and ``retried`` hold indices, ``unstored`` those of ended elements whose
    files are not all in the store, ``ahead`` those of waiting ones that have their inputs or are
    getting them; ``seconds`` is what the completed ones took.
    ``started_at`` and ``completed_at``: the first start and the last end of any, wall seconds.
    """

    __slots__ = (
        "_array",
        "_attempts",
        "_logs",
        "_results",
        "ahead",
        "completed_at",
        "counts",
        "ended",
        "failed",
        "retried",
        "running",
        "seconds",
        "spec",
        "started_at",
        "status",
        "unstored",
    )  # fmt: skip

    def __init__(self, spec: ArrayUnits) -> None:
        assert spec.job.array is not None
        self.spec = spec
        self._array = spec.job.array
        self.counts: Counter[JobStatus] = Counter({JobStatus.PENDING: spec.size})
        self.status = JobStatus.PENDING
        self.ended = False
        self.running: set[int] = set()
        self.failed: set[int] = set()
        self.retried: set[int] = set()
        self.unstored: set[int] = set()
        self.ahead: set[int] = set()
        self.seconds = 0.0
        self.started_at: float | None = None
        self.completed_at: float | None = None
        self._attempts: Counter[int] = Counter({0: spec.size})
        self._results: Counter[bool | None] = Counter({None: spec.size})
        self._logs: Counter[bool | None] = Counter({None: spec.size})

    @property
    def job_id(self) -> str:
        return self.spec.job.job_id

    @property
    def attempt(self) -> int:
        """The highest number of an attempt of any element."""
        # A copy: pictures are drawn in a thread of their own.
        return max(number for number, count in list(self._attempts.items()) if count)

    @property
    def results_uploaded(self) -> bool | None:
        """See JobState: of all its elements together."""
        return together(flag for flag in (True, False) if self._results[flag])

    @property
    def logs_uploaded(self) -> bool | None:
        """See JobState: of all its elements together."""
        return together(flag for flag in (True, False) if self._logs[flag])

    @property
    def full(self) -> bool:
        """Whether as many elements run as may at once (``array_parallel``)."""
        most = self._array.parallel
        return most is not None and self.counts[JobStatus.RUNNING] >= most

    @property
    def may_go_ahead(self) -> bool:
        """Whether another element may have its inputs fetched: one more than may run at once."""
        most = self._array.parallel
        return most is None or self.counts[JobStatus.RUNNING] + len(self.ahead) <= most

    @property
    def stopped(self) -> bool:
        """Whether a failure has ended it (``array_stop``): nothing of it is tried any more."""
        return self._array.stop and bool(self.failed)

    def moved(self, unit: int, old: JobState, new: JobState) -> None:
        """An element's record has changed."""
        # Every change of every element comes by: what most leave as it was is not looked at.
        at = unit - self.spec.first
        if old.status is not new.status:
            self._note_status(at, old, new)
        if old.attempt != new.attempt:
            self._attempts[old.attempt] -= 1
            self._attempts[new.attempt] += 1
            _keep(self.retried, at, new.attempt > 1)
        if old.results_uploaded is not new.results_uploaded:
            self._results[old.results_uploaded] -= 1
            self._results[new.results_uploaded] += 1
        if old.logs_uploaded is not new.logs_uploaded:
            self._logs[old.logs_uploaded] -= 1
            self._logs[new.logs_uploaded] += 1
        if self.unstored or new.results_uploaded is False or new.logs_uploaded is False:
            _keep(self.unstored, at, new.incomplete and new.status in ENDED)
        if self.ahead or new.fetching or new.fetched:
            _keep(self.ahead, at, (new.fetching or new.fetched) and new.status in WAITING)
        if old.started_at is None or new.completed_at != old.completed_at:
            self._note_times(new)

    def _note_status(self, at: int, old: JobState, new: JobState) -> None:
        before, after, counts = old.status, new.status, self.counts
        counts[before] -= 1
        counts[after] += 1
        if before is JobStatus.RUNNING:
            self.running.discard(at)
        elif before is JobStatus.FAILED:
            self.failed.discard(at)
        elif before is JobStatus.COMPLETED:
            self.seconds -= old.duration or 0.0
        if after is JobStatus.RUNNING:
            self.running.add(at)
        elif after is JobStatus.FAILED:
            self.failed.add(at)
        elif after is JobStatus.COMPLETED:
            self.seconds += new.duration or 0.0
        self.status = array_status(counts)
        self.ended = self.status in ENDED

    def _note_times(self, state: JobState) -> None:
        begun, over = state.first_start, state.completed_at
        if begun is not None and (self.started_at is None or begun < self.started_at):
            self.started_at = begun
        if over is not None and (self.completed_at is None or over > self.completed_at):
            self.completed_at = over


def array_status(counts: Mapping[JobStatus, int]) -> JobStatus:
    """Where an array stands as one job, by its elements: it has ended once all of them have, and
    has failed if one has."""
    for status in _ORDER:
        if counts.get(status):
            return status
    raise AssertionError("an array without elements")


def failed_jobs(document: QueueSpec, states: Sequence[JobState]) -> list[str]:
    """The ids of the jobs whose failure counts; ``states`` are those of the document's units.

    An array has once all of its elements have ended, and one of them has failed.
    """
    failed, unit = [], 0
    for job in document.jobs:
        statuses = {state.status for state in states[unit : unit + size_of(job)]}
        unit += size_of(job)
        if job.allow_failure:
            continue
        if JobStatus.FAILED in statuses and statuses <= ENDED:
            failed.append(job.job_id)
    return failed


def failures(document: QueueSpec, states: Sequence[JobState]) -> int:
    """How many units have failed without being allowed to."""
    failed, unit = 0, 0
    for job in document.jobs:
        size = size_of(job)
        if not job.allow_failure:
            failed += sum(state.status is JobStatus.FAILED for state in states[unit : unit + size])
        unit += size
    return failed


def _keep(members: set[int], at: int, belongs: bool) -> None:
    (members.add if belongs else members.discard)(at)


def together(flags: Iterable[bool | None]) -> bool | None:
    """What holds of all, where None says nothing."""
    told = set(flags)
    return False if False in told else True if True in told else None


def _rows(specs: Sequence[ArrayUnits], units: int) -> Sequence[int]:
    if not specs:
        return range(units)
    rows: list[int] = []
    at = 0
    for spec in specs:
        rows += [*range(at, spec.first), spec.node]
        at = spec.units.stop
    return [*rows, *range(at, units)]


class ArrayStates:
    """The arrays of one queue, and how many jobs of it stand where. True if there are any.

    ``rows``: the jobs of the document in its order, by number as the graph has it: a plain job is
    its unit's, an array is one.
    """

    def __init__(
        self, specs: Sequence[ArrayUnits], units: int, jobs: Sequence[tuple[int, JobState]] = ()
    ) -> None:
        self.all = [ArrayState(spec) for spec in specs]
        self._of: list[ArrayState | None] = [None] * (units if specs else 0)
        for array in self.all:
            self._of[array.spec.first : array.spec.units.stop] = [array] * array.spec.size
        self._units = units
        self.rows: Sequence[int] = _rows(specs, units)
        self.job_counts: Counter[JobStatus] = Counter({JobStatus.PENDING: len(self.rows)})
        """How many jobs stand where: only kept where there are arrays."""
        for unit, state in jobs if specs else ():
            self.moved(unit, PENDING, state)

    def __bool__(self) -> bool:
        return bool(self.all)

    def at(self, node: int) -> ArrayState | None:
        """The array of this number; None for a unit's."""
        return self.all[node - self._units] if self.all and node >= self._units else None

    def of(self, unit: int) -> ArrayState | None:
        """The array that a unit is an element of."""
        return self._of[unit] if self._of else None

    def moved(self, unit: int, old: JobState, new: JobState) -> None:
        """A unit's record has changed."""
        array = self._of[unit]
        if array is None:
            before, after = old.status, new.status
        else:
            before = array.status
            array.moved(unit, old, new)
            after = array.status
        if before is not after:
            self.job_counts[before] -= 1
            self.job_counts[after] += 1


NO_ARRAYS = ArrayStates((), 0)
