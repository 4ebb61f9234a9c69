"""What may start, and what counts, while the disk is short of space.

Nothing new starts then, with one exception: when nothing runs, nothing that runs can free any. Then
one job at a time starts in the reserve, one with ``run_if: always`` (they clean up) before others.
A failure of such a job with the disk still short at its end is put down to that: it doesn't count,
and is tried again later, or as soon as there is space.
"""

from __future__ import annotations

from dataclasses import replace

from runner.core.consequences import reconsider
from runner.core.events import AttemptEnded, Exited, Signalled, StartsBlocked
from runner.core.queue_records import QueueRecords
from runner.core.states import JobState, JobStatus, QueueStatus
from runner.model.durations import format_duration

IN_RESERVE = "disk full: started in the reserve"
"""The reason of an attempt that was started although the disk is short of space."""

FIRST_DELAY = 5.0
LAST_DELAY = 300.0
"""Seconds until a job that failed for want of space is tried again: first, and at most."""


def on_blocked(records: QueueRecords, event: StartsBlocked) -> None:
    """Nothing can be started for a while, or can again; of space it is the queue's reason."""
    before = records.blocked
    if event.reason == before:
        return
    records.blocked = event.reason
    records.short_of_space = event.reason is not None and event.space
    name = "starts_blocked" if event.reason else "starts_unblocked"
    records.tell(event.now.wall, None, name, reason=event.reason)
    queue = records.queue
    if before is not None and queue.reason == before and queue.status is QueueStatus.RUNNING:
        records.queue = replace(queue, reason=None)
        records.changes.urgent = True
    show_shortage(records)
    if not records.short_of_space:
        _try_again(records, event.now.wall)


def show_shortage(records: QueueRecords) -> None:
    """A queue that is held up by the disk says so, wherever its state is read."""
    queue = records.queue
    running = queue.status is QueueStatus.RUNNING
    if records.short_of_space and running and queue.reason is None:
        records.queue = replace(queue, reason=records.blocked)
        records.changes.urgent = True


def _try_again(records: QueueRecords, wall: float) -> None:
    """There is space: what waits for nothing else waits no longer."""
    if not any(state.space_failures for state in records.jobs):
        return
    for index in records.frontier.waiting():
        state = records.jobs[index]
        if state.space_failures:
            records.put(
                index,
                replace(state, retry_due=None, next_attempt_at=None, reason=None, space_failures=0),
            )
            reconsider(records, wall, (index,))


def failed_for_space(state: JobState, ended: AttemptEnded) -> bool:
    """Whether an end is put down to the full disk: started in the reserve, failed by itself."""
    live = state.live
    if live is None or not live.in_reserve or not ended.short_of_space or live.stop is not None:
        return False
    outcome = ended.outcome
    return outcome != Exited(0) and isinstance(outcome, Exited | Signalled)


def uncounted(after: JobState, ended: AttemptEnded, message: str) -> JobState:
    """The record of a job that failed for want of space: it waits, its budget as it was."""
    failures = after.space_failures + 1
    delay = min(LAST_DELAY, FIRST_DELAY * 2.0 ** min(failures - 1, 10))
    return replace(
        after,
        status=JobStatus.PENDING,
        error_message=message,
        reason=f"disk full: failed in the reserve, again in {format_duration(delay)}",
        next_attempt_at=ended.now.wall + delay,
        retry_due=ended.now.mono + delay,
        space_failures=failures,
    )
