"""What a person may see of a queue: the same shape from a living engine and from the disk.

Owns how long a picture from the disk is good for. It changes nothing.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from runner.core.arrays import NO_ARRAYS, ArrayState, ArrayStates
from runner.core.states import (
    ENDED,
    ON_BATCH,
    PENDING,
    QUEUE_ENDED,
    JobState,
    JobStatus,
    QueueState,
)
from runner.errors import NotFoundError
from runner.model.durations import format_duration
from runner.model.job_globs import is_glob, matching
from runner.model.messages import did_you_mean, quoted
from runner.process.identity import boot_id
from runner.store.array_view import array_view
from runner.store.change_stamp import Stamp, stamp_of
from runner.store.database import TAKEN_OVER, Database
from runner.store.locks import holder_of
from runner.store.paths import StatePaths
from runner.store.projection import job_view, queue_view

_SHOWN = {"owner": "owner", TAKEN_OVER: "blocked"}
"""What is told of a queue's own notes, and as what: one that another machine has taken over is held
up for good, whoever serves it here."""

PAGE = 500
"""Jobs in one answer at most: rendered in a few milliseconds."""


KEPT = 4
"""Queues that are kept in memory as they were read: one of 100,000 jobs takes 100 MB."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One moment of a queue. ``jobs`` holds a record for every unit of the document: plain jobs,
    and the elements of ``arrays``; ``counts`` is of these. What people see is one row a job.

    ``worker`` names who works on it now, ``extra`` are more fields for the summary: what holds it
    up (``blocked``), who will work on it (``queued``).
    """

    queue_id: str
    queue_name: str
    queue: QueueState
    names: Sequence[str]
    timeouts: Sequence[float | str]
    jobs: Sequence[JobState]
    counts: Mapping[JobStatus, int]
    worker: str | None
    extra: Mapping[str, str] = field(default_factory=dict)
    arrays: ArrayStates = NO_ARRAYS

    @property
    def rows(self) -> Sequence[int]:
        """The jobs, by number: see ``ArrayStates``."""
        return self.arrays.rows if self.arrays else range(len(self.names))

    @property
    def job_counts(self) -> Mapping[JobStatus, int]:
        """How many jobs stand where."""
        return self.arrays.job_counts if self.arrays else self.counts

    def find(self, names: Sequence[str]) -> list[int]:
        """The numbers of these jobs, or elements of arrays. Raises NotFoundError with the nearest
        name."""
        places = {name: number for number, name in enumerate(self.names)}
        places |= {array.job_id: array.spec.node for array in self.arrays.all}
        for name in names:
            if name not in places:
                hint = did_you_mean(name, places)
                raise NotFoundError(f"there is no job {quoted(name)} in '{self.queue_id}'{hint}")
        return [places[name] for name in names]

    def matching(self, names: Sequence[str]) -> list[list[int]]:
        """Of each name the job it means; of a pattern all jobs that it matches, arrays as a whole.

        Raises NotFoundError.
        """
        plain = [name for name in names if not is_glob(name)]
        found = {name: [number] for name, number in zip(plain, self.find(plain), strict=True)}
        if len(found) < len(set(names)):
            ids = [self._name_of(row) for row in self.rows]
            numbers = dict(zip(ids, self.rows, strict=True))
            for name in names:
                if name not in found:
                    found[name] = [numbers[meant] for meant in matching(name, ids)]
                if not found[name]:
                    raise NotFoundError(f"no job in '{self.queue_id}' matches {quoted(name)}")
        return [found[name] for name in names]

    def _name_of(self, number: int) -> str:
        array = self._array(number)
        return self.names[number] if array is None else array.job_id

    def status_of(self, number: int) -> JobStatus:
        """Where a unit, or an array as a whole, stands."""
        array = self._array(number)
        return self.jobs[number].status if array is None else array.status

    def units_of(self, number: int) -> Sequence[int]:
        """The number of a unit, or those of an array's elements."""
        array = self._array(number)
        return (number,) if array is None else array.spec.units

    def _array(self, number: int) -> ArrayState | None:
        return self.arrays.at(number) if self.arrays else None

    def summary(self) -> dict[str, Any]:
        """The queue's fields, how many jobs stand where, and what holds it up."""
        view = queue_view(self.queue_id, self.queue_name, self.queue)
        counts = self.job_counts
        view["counts"] = {status.value: counts[status] for status in JobStatus}
        view["jobs_total"] = len(self.rows)
        view["worked_seconds"] = round(self.queue.worked, 3)
        if self.worker:
            view["worker"] = self.worker
        if self.queue.status in QUEUE_ENDED and self._incomplete():
            view["results_incomplete"] = True
        return {**view, **self.extra}

    def with_more(self, extra: Mapping[str, str]) -> Snapshot:
        """The same moment with more fields in its summary."""
        return replace(self, extra={**self.extra, **extra}) if extra else self

    def _incomplete(self) -> bool:
        return any(s.incomplete and s.status in ENDED for s in self.jobs)

    def page(
        self, after: int, limit: int, status: Collection[str] | None, only: Sequence[int] | None
    ) -> tuple[list[dict[str, Any]], int | None]:
        """Up to ``limit`` jobs from the ``after``-th on that match; and where to go on.

        ``only``: the numbers of jobs, or of elements of arrays.
        """
        wanted = {JobStatus(value) for value in status} if status else None
        counts = self.job_counts
        if wanted is not None and only is None and not any(counts[each] for each in wanted):
            return [], None
        found: list[dict[str, Any]] = []
        rows = self.rows if only is None else sorted(set(only))
        for at in range(after, len(rows)):
            if wanted is not None and self.status_of(rows[at]) not in wanted:
                continue
            if len(found) >= limit:
                return found, at
            found.append(self.job(rows[at]))
        return found, None

    def job(self, number: int) -> dict[str, Any]:
        """One job, or element, with its timeout and how long it runs: what a progress display
        needs."""
        if (array := self._array(number)) is not None:
            return self._of_array(array)
        state, timeout = self.jobs[number], self.timeouts[number]
        view = job_view(self.names[number], state)
        view["timeout"] = _as_written(timeout)
        if state.status is JobStatus.RUNNING:
            view["elapsed_seconds"] = round(_elapsed(state), 3)
            if self.worker is None:
                view["reason"] = _left_alone(self.queue, state)
        return view

    def _of_array(self, array: ArrayState) -> dict[str, Any]:
        view = array_view(array, self.jobs)
        view["timeout"] = _as_written(self.timeouts[array.spec.first])
        if array.status is JobStatus.RUNNING:
            view["elapsed_seconds"] = round(max(0.0, time.time() - (array.started_at or 0.0)), 3)
            if self.worker is None:
                units = array.spec.units
                live = [self.jobs[units[at]] for at in sorted(array.running)]
                goes_on = [state for state in live if alive(self.queue, state)]
                view["reason"] = _left_alone(self.queue, (goes_on or live)[0])
        return view


def _as_written(timeout: float | str) -> str:
    return timeout if isinstance(timeout, str) else format_duration(timeout)


def _elapsed(state: JobState) -> float:
    """How long an attempt has been under way. Its claim's clock is this boot's, if it is alive."""
    since = state.live.since if state.live else None
    if since is not None and (seconds := time.monotonic() - since) >= 0:
        return seconds
    return max(0.0, time.time() - (state.started_at or time.time()))


def _left_alone(queue: QueueState, state: JobState) -> str:
    if queue.boot_id == ON_BATCH:
        return "goes on in AWS Batch, and is followed again by the next start"
    if alive(queue, state):
        return "goes on, and is adopted by the next start"
    return "has ended; the next start records how"


def alive(queue: QueueState, state: JobState) -> bool:
    """Whether a running job's process is there, as far as can be seen: never signal by this.

    Its pid may not have been stored before its service died: then it is taken to be there. So is a
    job of AWS Batch: only a driver knows.
    """
    if queue.boot_id == ON_BATCH:
        return True
    if queue.boot_id != boot_id():
        return False
    return state.pid is None or os.path.exists(f"/proc/{state.pid}")


class StoredViews:
    """Reads queues from the disk, and keeps the last few while their files don't change.

    In several threads, but never two for one queue.
    """

    def __init__(self, paths: StatePaths) -> None:
        self._paths = paths
        self._kept: dict[str, tuple[Stamp | None, Snapshot]] = {}

    def snapshot(self, name: str, *, going_on: bool = False) -> Snapshot:
        """The queue now; if ``going_on``, the moment of the page before. Raises StateError."""
        stamp = stamp_of(self._paths.database_of(name))
        kept = self._kept.get(name)
        if kept is not None and (going_on or kept[0] == stamp):
            return kept[1]
        found = read_snapshot(self._paths, name)
        others = [(other, each) for other, each in self._kept.items() if other != name]
        self._kept = {
            **dict(others[-KEPT + 1 :]),
            name: (stamp if stamp.settled else None, found),
        }
        return found

    def forget(self) -> None:
        """Let the memory go."""
        self._kept = {}


def read_snapshot(paths: StatePaths, name: str) -> Snapshot:
    """The queue as the disk has it, without the cost of validating its document again."""
    database = Database(paths.queue(name).database, read_only=True)
    try:
        with database.one_moment():
            outline = database.outline()
            loaded = database.load(len(outline.units))
    finally:
        database.close()
    jobs = [PENDING] * len(outline.units)
    for index, state in loaded.jobs.items():
        jobs[index] = state
    counts = dict.fromkeys(JobStatus, 0)
    for state in jobs:
        counts[state.status] += 1
    queue_id = loaded.queue_id
    return Snapshot(
        queue_id=queue_id,
        queue_name=outline.queue_name,
        queue=loaded.queue,
        names=outline.units,
        timeouts=outline.timeouts,
        jobs=jobs,
        counts=counts,
        worker=holder_of(paths.queue_lock(queue_id)) if queue_id == name else None,
        extra={shown: word for name, shown in _SHOWN.items() if (word := loaded.meta.get(name))},
        arrays=ArrayStates(outline.arrays, len(outline.units), [*loaded.jobs.items()]),
    )
