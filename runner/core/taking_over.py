"""A run that another machine began, as its state in the result store tells of it. Pure.

The state is for people: what it doesn't say is what costs least to be wrong about. A job that ran
is one whose machine went away; so is one that completed, if what it declared was never stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from runner.core.closing import failure_of
from runner.core.states import (
    ENDED,
    LOST,
    JobState,
    JobStatus,
    Live,
    QueueState,
    QueueStatus,
)
from runner.errors import StateError
from runner.model.document import Job, Queue


def from_stored(
    document: Queue, stored: Mapping[str, Any]
) -> tuple[QueueState, dict[int, JobState]]:
    """The records of an unfinished run, for a machine that knows nothing of it.

    They are those of another boot, so that a session opens them like any after a power cut.
    Raises StateError for what no runner has stored.
    """
    try:
        told = {job["job_id"]: job for job in stored["jobs"]}
        if told.keys() != {job.job_id for job in document.jobs}:
            raise StateError("its jobs are not those of its document")
        updated = _time(stored.get("updated_at")) or 0.0
        jobs = {
            index: _job(job, told[job.job_id], stored["run_id"], index, updated)
            for index, job in enumerate(document.jobs)
        }
        failed = [index for index, state in jobs.items() if state.status is JobStatus.FAILED]
        halts = failed and document.on_failure == "stop"
        queue = QueueState(
            run_id=stored["run_id"],
            status=QueueStatus(stored["status"]),
            reason=stored.get("reason"),
            started_at=_time(stored.get("started_at")),
            updated_at=updated,
            worked=float(stored.get("worked_seconds", 0.0)),
            paused=bool(stored.get("paused", False)),
            halted=failure_of(document.jobs[failed[0]].job_id) if halts else None,
            epoch=int(stored.get("epoch", 0)),
            starts=sum(state.attempt for state in jobs.values()),
        )
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise StateError(f"it can't be read: {type(error).__name__}: {error}") from error
    return queue, jobs


def _job(job: Job, told: Mapping[str, Any], run_id: str, index: int, updated: float) -> JobState:
    status = JobStatus(told["status"])
    interruptions = int(told.get("interruptions", 0))
    attempt = int(told["attempt"])
    begun = attempt - (status is JobStatus.RUNNING)
    budget = job.retry.max_attempts if job.retry else 1
    counted = max(0, begun - interruptions)
    state = JobState(
        status=status,
        attempt=attempt,
        counted=min(counted, budget if status in ENDED else budget - 1),
        interruptions=interruptions,
        unannounced=int(told.get("unannounced", 0)),
        started_at=_time(told.get("started_at")),
        completed_at=_time(told.get("completed_at")),
        duration=told.get("duration_seconds"),
        exit_code=told.get("exit_code"),
        signal=told.get("signal"),
        timed_out=bool(told.get("timed_out", False)),
        error_message=told.get("error_message"),
        reason=told.get("reason"),
        results_uploaded=told.get("results_uploaded"),
        result_error=told.get("result_error"),
    )
    if status is JobStatus.RUNNING:
        return replace(state, live=Live(f"{run_id[:8]}-stored-{index:x}", index, attempt))
    if status is JobStatus.COMPLETED and job.result_paths and not state.results_uploaded:
        return JobState(attempt=attempt, interruptions=interruptions, reason=LOST)
    due = _time(told.get("next_attempt_at"))
    if due is not None and status not in ENDED:
        # What is left of the wait, on the clock of a boot that began with the state.
        state = replace(state, next_attempt_at=due, retry_due=max(0.0, due - updated))
    return state


def _time(text: Any) -> float | None:
    return None if text is None else datetime.fromisoformat(text).timestamp()
