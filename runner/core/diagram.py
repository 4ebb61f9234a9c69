"""The transition tables as pictures: Mermaid text, for the documentation. Pure.

Owns a word for why each transition happens. What is legal is the tables' business: a transition
without its word can't be drawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from typing import TypeVar

from runner.core.states import (
    ENDED,
    JOB_TRANSITIONS,
    QUEUE_ENDED,
    QUEUE_TRANSITIONS,
    JobStatus,
    QueueStatus,
)

_J = JobStatus
_Q = QueueStatus
_Status = TypeVar("_Status", JobStatus, QueueStatus)

JOB_CAUSES: dict[tuple[JobStatus, JobStatus], str] = {
    (_J.PENDING, _J.RUNNING): "started",
    (_J.PENDING, _J.COMPLETED): "unchanged",
    (_J.PENDING, _J.SKIPPED): "run_if not met, or stopped before it",
    (_J.PENDING, _J.CANCELLED): "cancel",
    (_J.PENDING, _J.FAILED): "inputs or secrets missing, or no time for a retry",
    (_J.RUNNING, _J.COMPLETED): "exit 0",
    (_J.RUNNING, _J.FAILED): "failed, no retry left",
    (_J.RUNNING, _J.CANCELLED): "cancel",
    (_J.RUNNING, _J.INTERRUPTED): "machine or service stopped",
    (_J.RUNNING, _J.PENDING): "retry is due later",
    (_J.INTERRUPTED, _J.RUNNING): "resume",
    (_J.INTERRUPTED, _J.FAILED): "global timeout, or inputs missing",
    (_J.INTERRUPTED, _J.CANCELLED): "cancel",
    (_J.FAILED, _J.PENDING): "retry",
    (_J.SKIPPED, _J.PENDING): "retry",
    (_J.CANCELLED, _J.PENDING): "retry",
    (_J.COMPLETED, _J.PENDING): "retry, or outputs lost",
}

QUEUE_CAUSES: dict[tuple[QueueStatus, QueueStatus], str] = {
    (_Q.PENDING, _Q.RUNNING): "work begins",
    (_Q.PENDING, _Q.CANCELLED): "cancel",
    (_Q.RUNNING, _Q.COMPLETED): "no job failed",
    (_Q.RUNNING, _Q.FAILED): "a job failed, or global timeout",
    (_Q.RUNNING, _Q.CANCELLED): "cancel",
    (_Q.RUNNING, _Q.INTERRUPTED): "machine or service stopped",
    (_Q.INTERRUPTED, _Q.RUNNING): "resume",
    (_Q.COMPLETED, _Q.RUNNING): "retry or update",
    (_Q.FAILED, _Q.RUNNING): "retry or update",
    (_Q.CANCELLED, _Q.RUNNING): "retry or update",
}


def job_diagram() -> str:
    """A job's states and what leads from one to another, as a Mermaid state diagram."""
    return _render(JOB_TRANSITIONS, JOB_CAUSES, _J.PENDING, ENDED)


def queue_diagram() -> str:
    """A queue's states and what leads from one to another, as a Mermaid state diagram."""
    return _render(QUEUE_TRANSITIONS, QUEUE_CAUSES, _Q.PENDING, QUEUE_ENDED)


def _render(
    table: Mapping[_Status, Set[_Status]],
    causes: Mapping[tuple[_Status, _Status], str],
    first: _Status,
    ended: Set[_Status],
) -> str:
    lines = ["stateDiagram-v2", f"    [*] --> {first.value}"]
    lines += (f"    {old.value} --> {new.value}: {causes[old, new]}" for old, new in edges(table))
    lines += (f"    {status.value} --> [*]" for status in table if status in ended)
    return "\n".join(lines) + "\n"


def edges(table: Mapping[_Status, Set[_Status]]) -> Iterator[tuple[_Status, _Status]]:
    """A table's transitions, in the order in which the statuses are declared."""
    for old, news in table.items():
        for new in type(old):
            if new in news:
                yield old, new
