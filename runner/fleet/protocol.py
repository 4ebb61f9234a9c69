"""What follows from how a task ended: pure decisions, which the worker and the database carry out.

Owns when a failure is tried again, after how long, and when a job has failed too often in a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

from runner.fleet.records import MAX_RETRY_DELAY, JobOptions, Metrics, TaskState

FAILED_IN_A_ROW = 10
"""Tasks that fail for good one after the other until their job is paused."""

LEASE_PARTS = 4
"""A lease is extended that often before it is over."""

LONGEST_BEAT = 60.0
"""Seconds: one that is silent for longer is told as stuck, however long its lease is."""

ANSWER = 30.0
"""Seconds that a call of a worker to its database may take: none of them looks at all tasks."""

GRACE = 30.0
"""Seconds before a lease is over, by our clock, until when a tree must have been ended."""


class TaskEndKind(Enum):
    """How one run of a task ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    INVALID = "invalid"
    """No attempt can help: the job can't be run as it is."""
    INTERRUPTED = "interrupted"
    LOST = "lost"
    """The lease ran out or went to another: nothing of this run counts."""


@dataclass(frozen=True, slots=True)
class TaskEnd:
    """``resumable``: what an interrupted run has stored is complete, and the next may go on.
    ``signalled``: a signal ended its command, which nobody of ours had sent."""

    kind: TaskEndKind
    reason: str = ""
    metrics: Metrics = field(default_factory=Metrics)
    resumable: bool = False
    exit_code: int | None = None
    signalled: bool = False


@dataclass(frozen=True, slots=True)
class RetryLater:
    """Try it again in so many seconds."""

    delay: float
    reason: str


@dataclass(frozen=True, slots=True)
class FailForGood:
    """Never try it again by itself."""

    reason: str


def after_failure(end: TaskEnd, attempts: int, options: JobOptions) -> RetryLater | FailForGood:
    """What becomes of a task that failed so; ``attempts``: failures counted before this one."""
    if end.kind is TaskEndKind.INVALID or end.exit_code in options.terminal_codes:
        return FailForGood(end.reason)
    if attempts + 1 >= options.max_attempts:
        count = "1 attempt" if options.max_attempts == 1 else f"{options.max_attempts} attempts"
        return FailForGood(f"{end.reason} ({count})")
    return RetryLater(min(options.retry_delay * 2.0**attempts, MAX_RETRY_DELAY), end.reason)


def pause_reason(newest: Sequence[TaskState], reason: str) -> str | None:
    """Why a job whose tasks ended so, the newest first, is to be paused; None: it isn't."""
    last = newest[:FAILED_IN_A_ROW]
    if len(last) < FAILED_IN_A_ROW or set(last) != {TaskState.TERMINAL_FAILED}:
        return None
    return f"{FAILED_IN_A_ROW} tasks in a row have failed for good, the last: {reason}"


def extends_every(lease: float) -> float:
    """Seconds between two extensions of a lease, which are the worker's beats, too."""
    return min(lease / LEASE_PARTS, LONGEST_BEAT)


def answers_within(lease: float) -> float:
    """Seconds until a worker asks its database again: an answer after a lease is of no use."""
    return min(lease, ANSWER)


def ends_before(lease: float) -> float:
    """Seconds before the end of a lease that could not be extended when its work is ended."""
    return min(GRACE, lease / LEASE_PARTS)
