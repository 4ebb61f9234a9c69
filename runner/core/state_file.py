"""``queue-state.json`` as a record: what a state says that this or another machine has stored.

It is written for people by ``store.projection``, and read here by every program that goes by it: a
machine that resumes the queue, a laptop that looks at a store, a download of results. Any machine
of the same role may have written it, so all of it is checked before any of it is used.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Annotated, Any

from runner.core.states import ENDED, JobStatus, QueueStatus
from runner.errors import StateError
from runner.model.elements import element_name, parse_indices
from runner.model.fields import check_stored_job_id
from runner.model.placement_fields import MAX_ARRAY
from runner.model.records import (
    LAST_SECOND,
    Name,
    Rule,
    decode,
    each_named,
    matching,
    number,
    read,
    text,
    whole,
)
from runner.model.validation_errors import InvalidError
from runner.timestamps import parse_rfc3339

MOST = 10**9
"""More attempts, or starts on other machines, than any queue has. What is counted on from there
stays far below what a record of ours may hold."""


def moment(value: Any) -> float:
    """Seconds since the epoch of an RFC 3339 time, as ``2026-01-22T14:05:30.125Z``."""
    try:
        seconds = parse_rfc3339(text(value))
    except ValueError as error:
        raise InvalidError(str(error)) from None
    if not 0 <= seconds <= LAST_SECOND:
        raise InvalidError("is out of range")
    return seconds


Told = Annotated[int, Rule(whole(0, MOST))]
Time = Annotated[float, Rule(moment)]
Duration = Annotated[float, Rule(number(0, MOST))]


@dataclass(frozen=True, slots=True)
class StateFileElements:
    """Elements of an array that stand alike: ``indices`` like ``0-16,18``."""

    indices: str
    status: JobStatus
    attempt: Told
    exit_code: Annotated[int, Rule(whole(0, 255))] | None = None
    signal: str | None = None
    timed_out: bool = False
    error_message: str | None = None
    reason: str | None = None
    interruptions: Told = 0
    unannounced: Told = 0
    oom_killed: bool = False
    results_uploaded: bool | None = None
    logs_uploaded: bool | None = None
    result_error: str | None = None
    stale_results: tuple[str, ...] = ()
    released: bool = False


@dataclass(frozen=True, slots=True)
class StateFileArray:
    """The elements of an array: each is in one of ``elements``.

    The rest is for people: how many stand where, and which run, have failed, were tried again;
    ``completed_seconds`` is what the completed ones took together.
    """

    size: Annotated[int, Rule(whole(1, MAX_ARRAY))]
    elements: tuple[StateFileElements, ...] = ()
    counts: Annotated[Mapping[str, int], Rule(each_named(whole(0, MAX_ARRAY)))] = field(
        default_factory=dict
    )
    running: str | None = None
    failed: str | None = None
    retried: str | None = None
    completed_seconds: Duration = 0.0


@dataclass(frozen=True, slots=True)
class StateFileJob:
    """One job as a state tells of it. Wall times in seconds since the epoch.

    An array is one job here, with ``array``: see ``StateFile.units``.
    """

    job_id: Annotated[str, Rule(check_stored_job_id)]
    status: JobStatus
    attempt: Told
    started_at: Time | None = None
    first_started_at: Time | None = None
    completed_at: Time | None = None
    exit_code: Annotated[int, Rule(whole(0, 255))] | None = None
    signal: str | None = None
    timed_out: bool = False
    pid: Told | None = None
    error_message: str | None = None
    reason: str | None = None
    next_attempt_at: Time | None = None
    interruptions: Told = 0
    unannounced: Told = 0
    duration_seconds: Duration | None = None
    cpu_seconds: Duration | None = None
    max_rss_bytes: Annotated[int, Rule(whole(0))] | None = None
    oom_killed: bool = False
    results_uploaded: bool | None = None
    logs_uploaded: bool | None = None
    result_error: str | None = None
    stale_results: tuple[str, ...] = ()
    released: bool = False
    array: StateFileArray | None = None

    @property
    def incomplete(self) -> bool:
        """Whether files of it that should be in the store are not."""
        return False in (self.results_uploaded, self.logs_uploaded)

    @property
    def should_be_stored(self) -> bool:
        """Whether it ran, or stands as it ran before, and has ended: an upload was due."""
        return self.status is JobStatus.COMPLETED or (self.attempt > 0 and self.status in ENDED)


@dataclass(frozen=True, slots=True)
class StateFileNotice:
    """A line of the outbox, as ``NoticeState`` has it."""

    id: Annotated[str, Rule(matching(r"[0-9a-f]{32}", "a notice's id"))]
    event: str
    to: str
    at: Time
    nth: Told = 0
    job: str | None = None
    status: str = ""
    reason: str | None = None
    counts: Annotated[Mapping[str, int], Rule(each_named(whole(0, MOST)))] = field(
        default_factory=dict
    )
    told_at: Time | None = None
    error: str | None = None
    given_up: bool = False


@dataclass(frozen=True, slots=True)
class StateFile:
    """A run as a state tells of it. ``epoch`` and ``holder`` are those of who stored it."""

    queue_id: Name
    run_id: Name
    status: QueueStatus
    jobs: tuple[StateFileJob, ...]
    queue_name: str = ""
    schema_version: Told = 1
    reason: str | None = None
    started_at: Time | None = None
    updated_at: Time | None = None
    completed_at: Time | None = None
    results_incomplete: bool = False
    paused: bool = False
    accepts_jobs: bool = False
    resumed: str | None = None
    worked_seconds: Duration = 0.0
    notified: tuple[StateFileNotice, ...] = ()
    epoch: Told = 0
    holder: str | None = None

    def units(self) -> Iterator[StateFileJob]:
        """The plain jobs and the elements of arrays, each as a job, in order.

        When an element started and ended isn't told: its array's times stand for them.
        """
        for job in self.jobs:
            if job.array is None:
                yield job
            else:
                yield from _elements(job, job.array)


def parse_state(data: bytes | str, name: str) -> StateFile:
    """The state in ``data``. Raises StateError, which begins with ``name``."""
    return read_state(decode(data, name), name)


def read_state(value: Any, name: str) -> StateFile:
    """The state in a JSON value. Raises StateError, which begins with ``name``."""
    state = read(StateFile, value, name)
    seen: set[str] = set()
    for index, job in enumerate(state.jobs):
        if job.job_id in seen:
            raise StateError(f"{name}: jobs[{index}].job_id: is given twice")
        seen.add(job.job_id)
        if job.array is not None and (fault := _fault_of(job.array)) is not None:
            raise StateError(f"{name}: jobs[{index}].array: {fault}")
    return state


def _fault_of(array: StateFileArray) -> str | None:
    """Why its elements aren't each told of once; None if they are."""
    told = bytearray(array.size)
    for alike in array.elements:
        try:
            for indices in parse_indices(alike.indices):
                if indices.stop > array.size:
                    return f"elements: it has none of index {indices.stop - 1}"
                if any(told[indices.start : indices.stop]):
                    return f"elements: {alike.indices} holds one that is told of twice"
                told[indices.start : indices.stop] = b"\1" * len(indices)
        except ValueError as error:
            return f"elements: {alike.indices!r} {error}"
    missing = told.find(0)
    return None if missing < 0 else f"elements: {missing} is not told of"


def _elements(job: StateFileJob, array: StateFileArray) -> Iterator[StateFileJob]:
    alike: list[StateFileElements | None] = [None] * array.size
    for each in array.elements:
        for indices in parse_indices(each.indices):
            alike[indices.start : indices.stop] = [each] * len(indices)
    for index, found in enumerate(alike):
        assert found is not None
        begun = found.attempt > 0
        yield StateFileJob(
            element_name(job.job_id, index),
            found.status,
            found.attempt,
            started_at=job.started_at if begun else None,
            completed_at=job.completed_at if begun and found.status in ENDED else None,
            **{name: getattr(found, name) for name in _ALIKE},
        )


_ALIKE = tuple(
    each.name
    for each in fields(StateFileElements)
    if each.name not in ("indices", "status", "attempt")
)
"""What the elements of one record have in common, and a job has, too."""
