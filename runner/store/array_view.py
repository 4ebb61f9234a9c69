"""An array as one job, for people and for ``queue-state.json``: counts, and what stands out.

Ten thousand elements are one record. Owns its form; in the file it also holds what each element is
resumed from, those that stand alike told of together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

from runner.core.arrays import ArrayState, array_status, together
from runner.core.states import ENDED, JobState, JobStatus
from runner.model.elements import element_name, format_ranges, ranges_of
from runner.timestamps import rfc3339

_Ranges = list[tuple[int, int]]

_ALIKE = (
    "status",
    "attempt",
    "exit_code",
    "signal",
    "timed_out",
    "error_message",
    "reason",
    "interruptions",
    "unannounced",
    "oom_killed",
    "results_uploaded",
    "logs_uploaded",
    "result_error",
    "stale_results",
    "released",
)
"""What elements that are told of together have in common."""

_SELDOM = (
    "timed_out",
    "oom_killed",
    "interruptions",
    "unannounced",
    "stale_results",
    "released",
)
"""What says something only where it is not false, empty or 0."""

_values_of = attrgetter(*_ALIKE)
_Key = tuple[Any, ...]
_STATUS, _ATTEMPT, _MESSAGE, _REASON = (
    _ALIKE.index(name) for name in ("status", "attempt", "error_message", "reason")
)
_RESULTS, _LOGS, _ERROR = (
    _ALIKE.index(name) for name in ("results_uploaded", "logs_uploaded", "result_error")
)


@dataclass(frozen=True, slots=True)
class _ArrayTold:
    """What there is to tell of an array. ``failure``, ``unstored``: an element, and what of it."""

    size: int
    counts: Mapping[JobStatus, int]
    attempt: int
    started_at: float | None
    completed_at: float | None
    seconds: float
    running: _Ranges
    failed: _Ranges
    retried: _Ranges
    results_uploaded: bool | None
    logs_uploaded: bool | None
    failure: tuple[int, str | None] | None
    unstored: tuple[int, str | None] | None
    reason: str | None


def array_view(array: ArrayState, jobs: Sequence[JobState]) -> dict[str, Any]:
    """An array as people see it; ``jobs`` are the records of all units."""
    first, status = array.spec.first, array.status
    reason = None
    if status in (JobStatus.SKIPPED, JobStatus.CANCELLED):
        reason = next(jobs[at].reason for at in array.spec.units if jobs[at].status is status)
    failed, unstored = min(array.failed, default=None), min(array.unstored, default=None)
    told = _ArrayTold(
        size=array.spec.size,
        counts=array.counts,
        attempt=array.attempt,
        started_at=array.started_at,
        completed_at=array.completed_at,
        seconds=array.seconds,
        running=ranges_of(sorted(array.running)),
        failed=ranges_of(sorted(array.failed)),
        retried=ranges_of(sorted(array.retried)),
        results_uploaded=array.results_uploaded,
        logs_uploaded=array.logs_uploaded,
        failure=None if failed is None else (failed, _why_failed(jobs[first + failed])),
        unstored=None if unstored is None else (unstored, jobs[first + unstored].result_error),
        reason=reason,
    )
    return _view(array.job_id, told)


def _why_failed(state: JobState) -> str | None:
    return state.error_message or state.reason


def _view(job_id: str, told: _ArrayTold) -> dict[str, Any]:
    counts, status = told.counts, array_status(told.counts)
    array: dict[str, Any] = {
        "size": told.size,
        "counts": {each.value: counts[each] for each in JobStatus if counts.get(each)},
    }
    for name, ranges in (
        ("running", told.running),
        ("failed", told.failed),
        ("retried", told.retried),
    ):
        if ranges:
            array[name] = format_ranges(ranges)
    if counts.get(JobStatus.COMPLETED):
        array["completed_seconds"] = round(told.seconds, 3)
    view: dict[str, Any] = {
        "job_id": job_id,
        "status": status.value,
        "attempt": told.attempt,
        "started_at": rfc3339(told.started_at),
        "completed_at": rfc3339(told.completed_at) if status in ENDED else None,
        "error_message": None,
        "reason": told.reason,
        # Before its end some are always on their way.
        "results_uploaded": told.results_uploaded if status in ENDED else None,
        "logs_uploaded": told.logs_uploaded if status in ENDED else None,
        "result_error": None,
        "array": array,
    }
    if told.failure is not None:
        many = f"{counts[JobStatus.FAILED]:,} of {told.size:,} elements failed"
        view["error_message"] = f"{many}; {_of_element(job_id, *told.failure)}"
    if status in ENDED and told.started_at is not None and told.completed_at is not None:
        view["duration_seconds"] = round(max(0.0, told.completed_at - told.started_at), 3)
    if told.unstored is not None and told.unstored[1] is not None:
        view["result_error"] = _of_element(job_id, *told.unstored)
    return {name: value for name, value in view.items() if value is not None}


def _of_element(job_id: str, index: int, what: str | None) -> str:
    name = element_name(job_id, index)
    return f"{name}: {what}" if what else name


# -- in the file ---------------------------------------------------------------------------------


@dataclass(slots=True)
class ArrayPart:
    """Some consecutive elements: which stand alike, and what else is told of the whole array.

    An array has many, so that a change of one element costs only its part.
    """

    alike: dict[_Key, _Ranges] = field(default_factory=dict)
    started_at: float | None = None
    completed_at: float | None = None
    seconds: float = 0.0


def part_of(first: int, states: Iterable[JobState]) -> ArrayPart:
    """The part that begins with the element of index ``first``."""
    part = ArrayPart()
    indices: dict[_Key, list[int]] = {}
    for index, state in enumerate(states, first):
        indices.setdefault(_key(state), []).append(index)
        part.started_at = _first(part.started_at, state.first_start)
        part.completed_at = _last(part.completed_at, state.completed_at)
        if state.status is JobStatus.COMPLETED:
            part.seconds += state.duration or 0.0
    part.alike = {key: ranges_of(found) for key, found in indices.items()}
    return part


def _key(state: JobState) -> _Key:
    key: _Key = _values_of(state)
    if state.status not in ENDED and (state.error_message or state.reason):
        # Of a wait each would have its own moment.
        return tuple([None if at in (_MESSAGE, _REASON) else each for at, each in enumerate(key)])
    return key


def _first(a: float | None, b: float | None) -> float | None:
    return b if a is None else a if b is None else min(a, b)


def _last(a: float | None, b: float | None) -> float | None:
    return b if a is None else a if b is None else max(a, b)


def file_view(job_id: str, size: int, parts: Iterable[ArrayPart]) -> dict[str, Any]:
    """An array as the file has it: as people see it, with ``elements`` (see ``StateFileArray``)."""
    whole = ArrayPart()
    for part in parts:
        for key, ranges in part.alike.items():
            _append(whole.alike.setdefault(key, []), ranges)
        whole.started_at = _first(whole.started_at, part.started_at)
        whole.completed_at = _last(whole.completed_at, part.completed_at)
        whole.seconds += part.seconds
    view = _view(job_id, _told(size, whole))
    view["array"]["elements"] = [
        {"indices": format_ranges(ranges), **_alike_view(key)}
        for key, ranges in whole.alike.items()
    ]
    return view


def _append(found: _Ranges, more: _Ranges) -> None:
    if found and found[-1][1] == more[0][0] - 1:
        found[-1] = found[-1][0], more[0][1]
        more = more[1:]
    found += more


def _told(size: int, whole: ArrayPart) -> _ArrayTold:
    counts: Counter[JobStatus] = Counter()
    for key, ranges in whole.alike.items():
        counts[key[_STATUS]] += sum(b - a + 1 for a, b in ranges)
    status = array_status(counts)
    ended = _keys(whole, _STATUS, status)
    failed = _first_of(whole, _keys(whole, _STATUS, JobStatus.FAILED))
    unstored = _first_of(whole, (key for key in whole.alike if _is_unstored(key)))
    reason = _first_of(whole, ended) if status in _WITH_REASON else None
    return _ArrayTold(
        size=size,
        counts=counts,
        attempt=max(key[_ATTEMPT] for key in whole.alike),
        started_at=whole.started_at,
        completed_at=whole.completed_at,
        seconds=whole.seconds,
        running=_ranges(whole, _keys(whole, _STATUS, JobStatus.RUNNING)),
        failed=_ranges(whole, _keys(whole, _STATUS, JobStatus.FAILED)),
        retried=_ranges(whole, (key for key in whole.alike if key[_ATTEMPT] > 1)),
        results_uploaded=together(key[_RESULTS] for key in whole.alike),
        logs_uploaded=together(key[_LOGS] for key in whole.alike),
        failure=failed and (failed[0], failed[1][_MESSAGE] or failed[1][_REASON]),
        unstored=unstored and (unstored[0], unstored[1][_ERROR]),
        reason=reason and reason[1][_REASON],
    )


_WITH_REASON = (JobStatus.SKIPPED, JobStatus.CANCELLED)


def _is_unstored(key: _Key) -> bool:
    return key[_STATUS] in ENDED and False in (key[_RESULTS], key[_LOGS])


def _keys(whole: ArrayPart, place: int, value: object) -> Iterator[_Key]:
    return (key for key in whole.alike if key[place] is value)


def _ranges(whole: ArrayPart, keys: Iterable[_Key]) -> _Ranges:
    """The elements of all these, as ranges."""
    found: _Ranges = []
    for ranges in sorted(each for key in keys for each in whole.alike[key]):
        _append(found, [ranges])
    return found


def _first_of(whole: ArrayPart, keys: Iterable[_Key]) -> tuple[int, _Key] | None:
    """The first element of all these, and what it stands like."""
    return min(
        ((whole.alike[key][0][0], key) for key in keys), key=lambda each: each[0], default=None
    )


def _alike_view(key: _Key) -> dict[str, Any]:
    view = dict(zip(_ALIKE, key, strict=True))
    view["status"] = view["status"].value
    for name in _SELDOM:
        view[name] = view[name] or None
    return {name: value for name, value in view.items() if value is not None}
