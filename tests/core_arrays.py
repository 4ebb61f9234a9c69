"""What must be true of a scheduler's arrays, told from the records of their elements alone."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache

import pytest

from runner.core.scheduler import Scheduler
from runner.core.state_file import read_state
from runner.core.states import WAITING, JobState, JobStatus
from runner.model.graph import Graph
from runner.model.placement import ArraySpec
from runner.store.array_view import array_view, file_view, part_of


def rows(scheduler: Scheduler) -> list[int]:
    """The jobs of the document: plain ones by their unit, arrays by their node."""
    return [scheduler.graph.index[job.job_id] for job in scheduler.given.jobs]


@lru_cache(maxsize=4)
def _named(graph: Graph) -> dict[int, list[int]]:
    """The elements of each array by its node, told by their names."""
    units: dict[str, list[int]] = {}
    for name, at in graph.index.items():
        job_id, bracket, _ = name.partition("[")
        if bracket:
            units.setdefault(job_id, []).append(at)
    return {graph.index[job_id]: found for job_id, found in units.items()}


def units_of(scheduler: Scheduler, node: int) -> list[int]:
    """A plain job or an element; of an array its elements."""
    return [node] if node < len(scheduler.jobs) else _named(scheduler.graph)[node]


def status_of(scheduler: Scheduler, node: int) -> JobStatus:
    """An array ends with the last of its elements, and has failed if one of them has."""
    statuses = {scheduler.jobs[unit].status for unit in units_of(scheduler, node)}
    for status in (JobStatus.RUNNING, JobStatus.INTERRUPTED, JobStatus.PENDING, JobStatus.FAILED):
        if status in statuses:
            return status
    return min(statuses, key=[JobStatus.CANCELLED, JobStatus.SKIPPED, JobStatus.COMPLETED].index)


def array_of(scheduler: Scheduler, unit: int) -> tuple[ArraySpec, list[JobState]] | None:
    """The array that it is an element of, and how its elements stand."""
    job_id, bracket, _ = scheduler.document.jobs[unit].job_id.partition("[")
    if not bracket:
        return None
    spec = next(job.array for job in scheduler.given.jobs if job.job_id == job_id)
    assert spec is not None
    return spec, [scheduler.jobs[at] for at in units_of(scheduler, scheduler.graph.index[job_id])]


def is_full(scheduler: Scheduler, unit: int) -> bool:
    found = array_of(scheduler, unit)
    if found is None or found[0].parallel is None:
        return False
    return sum(state.live is not None for state in found[1]) >= found[0].parallel


def is_far_enough(scheduler: Scheduler, unit: int) -> bool:
    """Whether one more of its array than may run has its inputs."""
    found = array_of(scheduler, unit)
    if found is None or found[0].parallel is None:
        return False
    ahead = sum(s.status in WAITING and (s.fetching or s.fetched) for s in found[1])
    return sum(s.live is not None for s in found[1]) + ahead > found[0].parallel


def is_stopped(scheduler: Scheduler, unit: int) -> bool:
    found = array_of(scheduler, unit)
    return bool(found and found[0].stop and any(s.status is JobStatus.FAILED for s in found[1]))


def check_arrays(scheduler: Scheduler, anew: Scheduler) -> None:
    """What is kept in step must be what the records say: ``anew`` was made of them."""
    assert +scheduler.job_counts == Counter(status_of(scheduler, n) for n in rows(scheduler))
    for array, again in zip(scheduler.arrays.all, anew.arrays.all, strict=True):
        assert array.status is status_of(scheduler, array.spec.node)
        assert array.seconds == pytest.approx(again.seconds)
        for name in _DERIVED:
            assert getattr(array, name) == getattr(again, name), name


_DERIVED = (
    "status",
    "attempt",
    "running",
    "failed",
    "retried",
    "unstored",
    "ahead",
    "full",
    "results_uploaded",
    "logs_uploaded",
)


def check_files(scheduler: Scheduler) -> None:
    """What is told of an array and what its elements are resumed from is what their records say."""
    names = [unit.job_id for unit in scheduler.document.jobs]
    for array in scheduler.arrays.all:
        states = [scheduler.jobs[unit] for unit in array.spec.units]
        parts = [part_of(at, states[at : at + 2]) for at in range(0, len(states), 2)]
        told = file_view(array.job_id, array.spec.size, parts)
        people = array_view(array, scheduler.jobs)
        assert told["array"]["counts"] == people["array"]["counts"]
        for name in ("status", "attempt", "error_message", "result_error", "results_uploaded"):
            assert told.get(name) == people.get(name), name
        for name in ("running", "failed", "retried"):
            assert told["array"].get(name) == people["array"].get(name), name
        file = {"queue_id": "q", "run_id": "r", "status": "running", "jobs": [told]}
        units = read_state(file, "it").units()
        for unit, state, again in zip(array.spec.units, states, units, strict=True):
            assert (again.job_id, again.status) == (names[unit], state.status)
            assert again.attempt == state.attempt
