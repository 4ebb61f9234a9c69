"""``queue-state.json`` as a record: what a state says that this or another machine has stored.

It is written for people by ``store.projection``, and read here by every program that goes by it: a
machine that resumes the queue, a laptop that looks at a store, a download of results. Any machine
of the same role may have written it, so all of it is checked before any of it is used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from runner.core.states import ENDED, JobStatus, QueueStatus
from runner.errors import StateError
from runner.model.fields import check_stored_job_id
from runner.model.records import LAST_SECOND, Name, Rule, decode, number, read, text, whole
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
class StateFileJob:
    """One job as a state tells of it. Wall times in seconds since the epoch."""

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

    @property
    def incomplete(self) -> bool:
        """Whether files of it that should be in the store are not."""
        return False in (self.results_uploaded, self.logs_uploaded)

    @property
    def should_be_stored(self) -> bool:
        """Whether it ran and has ended: an upload was due."""
        return self.attempt > 0 and self.status in ENDED


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
    resumed: str | None = None
    worked_seconds: Duration = 0.0
    epoch: Told = 0
    holder: str | None = None


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
    return state
