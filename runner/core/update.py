"""Carrying a queue's records over to a changed document (``--update``). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from runner.core.closing import failure_of
from runner.core.states import QUEUE_ENDED, JobState, JobStatus, QueueState, QueueStatus
from runner.errors import ConflictError
from runner.model.document import Queue, first_difference
from runner.model.graph import Graph


def carry_over(
    old: Queue, new: Queue, queue: QueueState, jobs: Mapping[int, JobState]
) -> tuple[QueueState, dict[int, JobState]]:
    """The records for ``new``. Raises ConflictError naming each job that may not change.

    Jobs that have started, and what they depend on, must be as they were. What never started is
    judged anew, also when it had been skipped.
    """
    names = {index: old.jobs[index].job_id for index in jobs}
    started = {index for index, state in jobs.items() if state.attempt}
    fixed = started | Graph(old.jobs).ancestors(started)
    there = {job.job_id: job for job in new.jobs}
    errors = []
    for index in sorted(fixed):
        was = old.jobs[index]
        now = there.get(was.job_id)
        if now is None:
            errors.append(f"jobs[{index}]: '{was.job_id}' has started and can't be removed")
        elif now != was:
            what = first_difference(replace(new, jobs=(was,)), replace(new, jobs=(now,)))
            errors.append(f"jobs[{index}]: '{was.job_id}' has started and can't change: {what}")
    if errors:
        raise ConflictError("\n".join(errors))
    places = {job.job_id: index for index, job in enumerate(new.jobs)}
    kept = {
        places[names[index]]: state
        for index, state in jobs.items()
        if names[index] in places and (state.attempt or state.status is JobStatus.CANCELLED)
    }
    open_again = len(kept) < len(new.jobs) or any(
        state.status in (JobStatus.PENDING, JobStatus.RUNNING, JobStatus.INTERRUPTED)
        for state in kept.values()
    )
    queue = replace(queue, halted=_halted(old, new, queue, kept))
    if queue.status in QUEUE_ENDED and open_again:
        queue = replace(
            queue,
            status=QueueStatus.RUNNING,
            reason=None,
            completed_at=None,
            timed_out=False,
            cancelling=False,
        )
    return queue, kept


def _halted(old: Queue, new: Queue, queue: QueueState, jobs: Mapping[int, JobState]) -> str | None:
    """What stops the queue under the new document: a failure that it would have stopped for."""
    if new.on_failure != "stop":
        return None
    if old.on_failure == "stop":
        return queue.halted
    failed = [index for index, state in jobs.items() if state.status is JobStatus.FAILED]
    return failure_of(new.jobs[min(failed)].job_id) if failed else None
