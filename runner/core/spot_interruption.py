"""The machine is to be taken away: nothing new starts, and what runs ends before it goes.

An interruption whose signal may come later: until then it is ``QueueRecords.departure``.
"""

from __future__ import annotations

from math import inf

from runner.core import termination
from runner.core.events import Now, SpotNotice
from runner.core.queue_records import Departure, QueueRecords
from runner.core.states import StopReason

MAX_GRACE = 60.0
"""Seconds between SIGTERM and SIGKILL at most; a spot notice comes two minutes before the end."""

LAST_UPLOADS = 30.0
"""Seconds that are kept for the logs of what was ended, if there are twice as many."""


def on_spot_notice(records: QueueRecords, event: SpotNotice) -> None:
    """Start nothing new. Told again, or while all is being ended, the time only gets shorter."""
    if records.finished:
        return
    departure = records.departure
    being_ended = bool(records.interrupting) and departure is None
    if event.deadline is None and records.interrupting:
        return
    now = event.now
    records.tell(now.wall, None, "spot_notice", why=event.reason)
    records.changes.urgent = True
    if not being_ended:
        records.interrupting = event.reason
    if event.deadline is None:
        records.departure = Departure(inf, inf)
        return
    gone_at = now.mono + max(0.0, event.deadline - now.wall)
    records.gone_at = gone_at if records.gone_at is None else min(gone_at, records.gone_at)
    lead = inf if event.lead is None or being_ended else event.lead
    stop_at = max(now.mono, gone_at - lead)
    if departure is not None:
        stop_at, gone_at = min(stop_at, departure.stop_at), min(gone_at, departure.gone_at)
    records.departure = Departure(stop_at, gone_at)
    end_if_due(records, now)


def end_if_due(records: QueueRecords, now: Now) -> None:
    """End what runs if it is time to. Not before work has begun: an opening repeats all signals."""
    departure = records.departure
    if departure is None or departure.stop_at > now.mono or not records.open:
        return
    records.departure = None
    grace = grace_within(departure.gone_at - now.mono)
    termination.stop_all(records, now.mono, now.wall, StopReason.INTERRUPTED, grace)


def overtake(records: QueueRecords, now: Now) -> float | None:
    """Something else ends what runs, now; the seconds that the departure leaves it, if limited."""
    departure, records.departure = records.departure, None
    if departure is None or departure.gone_at == inf:
        return None
    return grace_within(departure.gone_at - now.mono)


def grace_within(left: float) -> float:
    """Seconds that a job may take for its end when the machine goes in ``left`` seconds."""
    return max(0.0, min(MAX_GRACE, max(left - LAST_UPLOADS, left / 2)))
