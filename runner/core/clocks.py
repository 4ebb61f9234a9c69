"""The queue's clock (how long it was worked on) and every deadline of a session.

All of it is in monotonic seconds that arrive with the events; nothing here reads a clock.
"""

from __future__ import annotations

from dataclasses import replace
from math import isfinite

from runner.core import termination
from runner.core.consequences import give_up, global_timeout_message, reconsider
from runner.core.events import Now
from runner.core.queue_records import QueueRecords
from runner.core.spot_interruption import end_if_due
from runner.core.states import QueueStatus, StopReason, changed

SAVE_CLOCK_EVERY = 30.0
"""Seconds after which the time worked is saved even when nothing happens."""


def account(records: QueueRecords, now: Now) -> None:
    """Count the time since the last event as worked, unless nobody was to work.

    Before work begins the clock stays where the last session left it: see ``catch_up``.
    """
    queue = records.queue
    if not records.open:
        records.queue = changed(queue, updated_at=now.wall)
        return
    worked = queue.worked
    if _runs(records):
        worked += max(0.0, now.mono - queue.mono)
    records.queue = changed(queue, worked=worked, mono=now.mono, updated_at=now.wall)


def _runs(records: QueueRecords) -> bool:
    """Whether the queue's clock runs: not while it is paused with nothing running, nor while all
    that is left waits for a release, or nothing is left and more jobs may come."""
    if records.finished or records.queue.status is not QueueStatus.RUNNING:
        return False
    if records.queue.accepts_jobs and not records.unended:
        return False
    return bool(records.live) or not (records.queue.paused or records.only_held)


def catch_up(records: QueueRecords, until: float) -> None:
    """Count what an attempt has worked, up to ``until``, while nobody watched; overlaps once."""
    queue = records.queue
    if not records.open and until > queue.mono:
        worked = queue.worked + until - queue.mono
        records.queue = replace(queue, worked=worked, mono=until)


def out_of_time(records: QueueRecords) -> bool:
    """Whether the global timeout has passed."""
    return records.queue.worked >= records.document.global_timeout


def _global_deadline(records: QueueRecords) -> float | None:
    queue = records.queue
    being_ended = records.interrupting and records.departure is None
    if records.ending or being_ended or queue.status is not QueueStatus.RUNNING:
        return None
    if not _runs(records) and not out_of_time(records):
        return None
    return queue.mono + records.document.global_timeout - queue.worked


def next_deadline(records: QueueRecords) -> float | None:
    """Monotonic time at which TimerFired is due; None while there is nothing to wait for."""
    if not records.open or records.finished:
        return None
    dues = [_global_deadline(records), records.frontier.next_due()]
    if _runs(records):
        dues.append(records.queue.mono + SAVE_CLOCK_EVERY)
    if records.departure is not None and isfinite(records.departure.stop_at):
        dues.append(records.departure.stop_at)
    dues += [termination.next_deadline(records, index) for index in records.live]
    return min((due for due in dues if due is not None), default=None)


def on_timer(records: QueueRecords, now: Now) -> None:
    """Do what is due. That the clock is saved is a reason to commit, too."""
    if not records.open:
        return
    records.changes.urgent = True
    end_if_due(records, now)
    for index in sorted(records.live):
        termination.check_deadline(records, now.mono, now.wall, index)
    while (due_index := records.frontier.take_due(now.mono)) is not None:
        _end_wait(records, now, due_index)
    due = _global_deadline(records)
    if due is not None and due <= now.mono:
        _time_out(records, now)


def _end_wait(records: QueueRecords, now: Now, index: int) -> None:
    state = records.jobs[index]
    records.put(index, replace(state, retry_due=None, next_attempt_at=None, reason=None))
    reconsider(records, now.wall, (index,))


def _time_out(records: QueueRecords, now: Now) -> None:
    message = global_timeout_message(records.document)
    records.queue = replace(records.queue, timed_out=True, reason=message)
    records.tell(now.wall, None, "global_timeout")
    termination.stop_all(records, now.mono, now.wall, StopReason.GLOBAL_TIMEOUT)
    give_up(records, now.wall)
