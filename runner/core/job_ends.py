"""How a job's record ends without another attempt. Pure: records in, records out."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache

from runner.core.states import PENDING, JobState, JobStatus
from runner.model.document import JobSpec


def failure_of(job_id: str) -> str:
    """The reason that a failure gives to all that ends for it."""
    return f"job '{job_id}' failed"


_FAILURE = re.compile(r"(?:no retry: )?job '([^']*)' failed")


def failed_job_in(text: str | None) -> str | None:
    """The job that a reason, or a message made of one, gives as its cause; None if none."""
    found = _FAILURE.match(text) if text else None
    return found[1] if found else None


def cancelled(state: JobState, reason: str = "cancelled") -> JobState:
    """A person wants no more of it; what the last attempt came to stays to be read."""
    return _closed(state, JobStatus.CANCELLED, reason)


def skipped(state: JobState, reason: str) -> JobState:
    """It is not its turn and never will be."""
    return _closed(state, JobStatus.SKIPPED, reason)


def without_retry(state: JobState, reason: str) -> JobState:
    """Failed, with its last result: it would have gone on, but nothing does any more."""
    closed = _closed(state, JobStatus.FAILED, f"no retry: {reason}")
    return replace(closed, error_message=state.error_message or reason)


def given_up(state: JobState, reason: str) -> JobState:
    """The time is over: what has a result keeps it as its last, what has none is skipped."""
    if state.counted or state.space_failures or state.status is not JobStatus.PENDING:
        return without_retry(state, reason)
    return skipped(state, reason)


def halted(state: JobState, reason: str, run_if: str) -> JobState | None:
    """What ``on_failure: stop`` makes of a pending job; None if it is there for failures."""
    if state.counted or state.space_failures:
        return without_retry(state, reason)
    return skipped(state, reason) if run_if == "success" else None


def to_be_stored(job: JobSpec, state: JobState) -> JobState:
    """It has ended, and its files are on their way to the store."""
    due = state.status is JobStatus.COMPLETED and job.kept_paths
    return replace(
        state,
        collecting=True,
        logs_uploaded=False,
        results_uploaded=False if due else None,
    )


def _closed(state: JobState, status: JobStatus, reason: str) -> JobState:
    if state is PENDING:
        return _fresh(status, reason)
    return replace(
        state,
        status=status,
        reason=reason,
        next_attempt_at=None,
        retry_due=None,
        fetching=False,
    )


@lru_cache(maxsize=8)
def _fresh(status: JobStatus, reason: str) -> JobState:
    """Shared: a hundred thousand jobs that one failure skips are one record."""
    return JobState(status=status, reason=reason)
