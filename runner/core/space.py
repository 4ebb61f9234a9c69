"""What may start, and what counts, while the disk is short of space.

Nothing new starts then, with one exception: when nothing runs, nothing that runs can free any. Then
one job at a time starts in the reserve, one with ``run_if: always`` (they clean up) before others.
A failure of such a job with the disk still short at its end is put down to that: it doesn't count,
and is tried again later, or as soon as there is space.
"""

from __future__ import annotations

from dataclasses import replace

from runner.core.ending import reconsider
from runner.core.events import AttemptEnded, Exited, Signalled, StartsBlocked
from runner.core.ledger import Ledger
from runner.core.states import JobState, JobStatus, QueueStatus
from runner.model.durations import format_duration

IN_RESERVE = "disk full: started in the reserve"
"""The reason of an attempt that was started although the disk is short of space."""

FIRST_DELAY = 5.0
LAST_DELAY = 300.0
"""Seconds until a job that failed for want of space is tried again: first, and at most."""


def on_blocked(ledger: Ledger, event: StartsBlocked) -> None:
    """Nothing can be started for a while, or can again; of space it is the queue's reason."""
    before = ledger.blocked
    if event.reason == before:
        return
    ledger.blocked = event.reason
    ledger.short_of_space = event.reason is not None and event.space
    name = "starts_blocked" if event.reason else "starts_unblocked"
    ledger.tell(event.now.wall, None, name, reason=event.reason)
    queue = ledger.queue
    if before is not None and queue.reason == before and queue.status is QueueStatus.RUNNING:
        ledger.queue = replace(queue, reason=None)
        ledger.changes.urgent = True
    show_shortage(ledger)
    if not ledger.short_of_space:
        _try_again(ledger, event.now.wall)


def show_shortage(ledger: Ledger) -> None:
    """A queue that is held up by the disk says so, wherever its state is read."""
    queue = ledger.queue
    running = queue.status is QueueStatus.RUNNING
    if ledger.short_of_space and running and queue.reason is None:
        ledger.queue = replace(queue, reason=ledger.blocked)
        ledger.changes.urgent = True


def _try_again(ledger: Ledger, wall: float) -> None:
    """There is space: what waits for nothing else waits no longer."""
    if not any(state.space_failures for state in ledger.jobs):
        return
    for index in ledger.frontier.waiting():
        state = ledger.jobs[index]
        if state.space_failures:
            ledger.put(
                index,
                replace(state, retry_due=None, next_attempt_at=None, reason=None, space_failures=0),
            )
            reconsider(ledger, wall, (index,))


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
