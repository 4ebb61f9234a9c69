"""Ending attempts: the reason first, the signal once that is durable, SIGKILL after the grace.

Deadlines are data in the records, so they outlive the session that set them.
"""

from __future__ import annotations

from dataclasses import replace

from runner.core.actions import SignalTree
from runner.core.queue_records import QueueRecords
from runner.core.states import Live, StopReason

KILL_AGAIN_AFTER = 2.0
"""Seconds after which a tree that outlived SIGKILL (a fork that slipped away) is killed again."""


def stop(
    records: QueueRecords,
    mono: float,
    wall: float,
    index: int,
    why: StopReason,
    cap: float | None = None,
) -> None:
    """Decide an attempt's end. ``cap``: the grace in seconds is no longer than this.

    The first decision stands: a later one can only shorten its grace, or (cancelled) forbid that
    another attempt follows.
    """
    live = records.jobs[index].live
    if live is None:
        return
    if live.over or live.stop is not None:
        live = _decided_before(live, mono, why, cap)
        _put_live(records, index, live)
        return
    grace = records.document.grace(records.document.jobs[index])
    if cap is not None:
        grace = min(grace, cap)
    _put_live(records, index, replace(live, stop=why, kill_at=mono + grace))
    records.tell(wall, index, "attempt_stopping", attempt=live.attempt, why=why.value)
    records.act(SignalTree(index, live.token, live.slot, kill=False))


def _decided_before(live: Live, mono: float, why: StopReason, cap: float | None) -> Live:
    if why is StopReason.CANCELLED:
        live = replace(live, last=True)
    if cap is not None and live.kill_at is not None and live.kill_at > mono + cap:
        live = replace(live, kill_at=mono + cap)
    return live


def stop_all(
    records: QueueRecords, mono: float, wall: float, why: StopReason, cap: float | None = None
) -> None:
    """Decide the end of every attempt under way."""
    for index in sorted(records.live):
        stop(records, mono, wall, index, why, cap)


def kill(records: QueueRecords, mono: float, index: int) -> None:
    """No more grace for an attempt whose end was decided."""
    live = records.jobs[index].live
    if live is None or live.stop is None:
        return
    _put_live(records, index, replace(live, kill_at=mono + KILL_AGAIN_AFTER, killed=True))
    records.act(SignalTree(index, live.token, live.slot, kill=True))


def signal_again(records: QueueRecords, mono: float) -> None:
    """Repeat the signal of every stop under way: the last session may not have sent it.

    A grace begins anew, or a job that was never told would be killed before it could save.
    """
    for index in sorted(records.live):
        live = records.jobs[index].live
        if live is None or live.stop is None:
            continue
        if not live.killed:
            grace = records.document.grace(records.document.jobs[index])
            _put_live(records, index, replace(live, kill_at=mono + grace))
        records.act(SignalTree(index, live.token, live.slot, kill=live.killed))


def next_deadline(records: QueueRecords, index: int) -> float | None:
    """Monotonic time at which an attempt is to be stopped, or killed."""
    state = records.jobs[index]
    live = state.live
    assert live is not None
    if live.kill_at is not None:
        return live.kill_at
    if live.since is None or live.over or live.keeps_time:
        return None
    return live.since + records.document.jobs[index].timeout - state.input_seconds


def check_deadline(records: QueueRecords, mono: float, wall: float, index: int) -> None:
    """Stop an attempt whose time is over, or kill it when its grace is."""
    due = next_deadline(records, index)
    if due is None or due > mono:
        return
    live = records.jobs[index].live
    if live is not None and live.stop is not None:
        kill(records, mono, index)
    else:
        stop(records, mono, wall, index, StopReason.TIMEOUT)


def _put_live(records: QueueRecords, index: int, live: Live) -> None:
    records.put(index, replace(records.jobs[index], live=live))
    records.changes.urgent = True
