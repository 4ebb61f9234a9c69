"""How the command of a task ended, for jobs that judge that themselves: part of its metrics.

A job that keeps outcomes fails a task only where it could not be run: a command that exits with 1,
or took too long, has been run, and how it ended is what was wanted.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from runner.core.states import JobState, JobStatus
from runner.errors import RecordError
from runner.model.records import Count, decode, read

KEY = "outcome"
"""Under which it is among the metrics of a task, and of its marker."""


@dataclass(frozen=True, slots=True)
class TaskOutcome:
    """``run``: the one that it is of; ``status``: a job's; ``attempt``: of that run, from 1, 0: it
    had none. ``started_at``, ``ended_at``: wall seconds of the worker's clock."""

    run: Count
    status: str
    attempt: Count = 0
    exit_code: int | None = None
    signal: str | None = None
    timed_out: bool = False
    message: str | None = None
    started_at: float | None = None
    ended_at: float | None = None


def outcome_of(run: int, states: list[JobState]) -> dict[str, Any]:
    """Of the first job that failed, else of the last one, as it is among the metrics."""
    failed = (state for state in states if state.status is JobStatus.FAILED)
    state = next(failed, states[-1])
    return asdict(
        TaskOutcome(
            run,
            state.status.value,
            state.attempt,
            state.exit_code,
            state.signal,
            bool(state.timed_out),
            state.error_message or state.reason,
            state.started_at,
            state.completed_at,
        )
    )


def parse_outcome(metrics: str | None, name: str) -> TaskOutcome | None:
    """The outcome among stored metrics; None: they have none. Raises RecordError."""
    if metrics is None:
        return None
    found = decode(metrics, name)
    if not isinstance(found, dict):
        raise RecordError(f"{name}: must be an object, not {json.dumps(found):.40}")
    value = found.get(KEY)
    return None if value is None else read(TaskOutcome, value, f"{name}: {KEY}")
