"""The queue's clock (how long it was worked on) and every deadline of a session.

All of it is in monotonic seconds that arrive with the events; nothing here reads a clock.
"""

from __future__ import annotations

from dataclasses import replace
from math import isfinite

from runner.core import stopping
from runner.core.departing import end_if_due
from runner.core.ending import give_up, global_timeout_message, reconsider
from runner.core.events import Now
from runner.core.ledger import Ledger
from runner.core.states import QueueStatus, StopReason

SAVE_CLOCK_EVERY = 30.0
"""Seconds after which the time worked is saved even when nothing happens."""


def account(ledger: Ledger, now: Now) -> None:
    """Count the time since the last event as worked, unless nobody was to work.

    Before work begins the clock stays where the last session left it: see ``catch_up``.
    """
    queue = ledger.queue
    if not ledger.open:
        ledger.queue = replace(queue, updated_at=now.wall)
        return
    worked = queue.worked
    if _runs(ledger):
        worked += max(0.0, now.mono - queue.mono)
    ledger.queue = replace(queue, worked=worked, mono=now.mono, updated_at=now.wall)


def _runs(ledger: Ledger) -> bool:
    """Whether the queue's clock runs: not while it is paused with nothing running."""
    if ledger.finished or ledger.queue.status is not QueueStatus.RUNNING:
        return False
    return bool(ledger.live) or not ledger.queue.paused


def catch_up(ledger: Ledger, until: float) -> None:
    """Count what an attempt has worked, up to ``until``, while nobody watched; overlaps once."""
    queue = ledger.queue
    if not ledger.open and until > queue.mono:
        worked = queue.worked + until - queue.mono
        ledger.queue = replace(queue, worked=worked, mono=until)


def out_of_time(ledger: Ledger) -> bool:
    """Whether the global timeout has passed."""
    return ledger.queue.worked >= ledger.document.global_timeout


def _global_deadline(ledger: Ledger) -> float | None:
    queue = ledger.queue
    being_ended = ledger.interrupting and ledger.departure is None
    if ledger.ending or being_ended or queue.status is not QueueStatus.RUNNING:
        return None
    if not _runs(ledger) and not out_of_time(ledger):
        return None
    return queue.mono + ledger.document.global_timeout - queue.worked


def next_deadline(ledger: Ledger) -> float | None:
    """Monotonic time at which TimerFired is due; None while there is nothing to wait for."""
    if not ledger.open or ledger.finished:
        return None
    dues = [_global_deadline(ledger), ledger.frontier.next_due()]
    if _runs(ledger):
        dues.append(ledger.queue.mono + SAVE_CLOCK_EVERY)
    if ledger.departure is not None and isfinite(ledger.departure.stop_at):
        dues.append(ledger.departure.stop_at)
    dues += [stopping.next_deadline(ledger, index) for index in ledger.live]
    return min((due for due in dues if due is not None), default=None)


def on_timer(ledger: Ledger, now: Now) -> None:
    """Do what is due. That the clock is saved is a reason to commit, too."""
    if not ledger.open:
        return
    ledger.changes.urgent = True
    end_if_due(ledger, now)
    for index in sorted(ledger.live):
        stopping.check_deadline(ledger, now.mono, now.wall, index)
    while (due_index := ledger.frontier.take_due(now.mono)) is not None:
        _end_wait(ledger, now, due_index)
    due = _global_deadline(ledger)
    if due is not None and due <= now.mono:
        _time_out(ledger, now)


def _end_wait(ledger: Ledger, now: Now, index: int) -> None:
    state = ledger.jobs[index]
    ledger.put(index, replace(state, retry_due=None, next_attempt_at=None, reason=None))
    reconsider(ledger, now.wall, (index,))


def _time_out(ledger: Ledger, now: Now) -> None:
    message = global_timeout_message(ledger.document)
    ledger.queue = replace(ledger.queue, timed_out=True, reason=message)
    ledger.tell(now.wall, None, "global_timeout")
    stopping.stop_all(ledger, now.mono, now.wall, StopReason.GLOBAL_TIMEOUT)
    give_up(ledger, now.wall)
