"""The machine is to be taken away: nothing new starts, and what runs ends before it goes.

An interruption whose signal may come later: until then it is the ledger's ``departure``.
"""

from __future__ import annotations

from math import inf

from runner.core import stopping
from runner.core.events import Now, SpotNotice
from runner.core.ledger import Departure, Ledger
from runner.core.states import StopReason

MAX_GRACE = 60.0
"""Seconds between SIGTERM and SIGKILL at most; a spot notice comes two minutes before the end."""

LAST_UPLOADS = 30.0
"""Seconds that are kept for the logs of what was ended, if there are twice as many."""


def on_spot_notice(ledger: Ledger, event: SpotNotice) -> None:
    """Start nothing new. Told again, or while all is being ended, the time only gets shorter."""
    if ledger.finished:
        return
    departure = ledger.departure
    being_ended = bool(ledger.interrupting) and departure is None
    if event.deadline is None and ledger.interrupting:
        return
    now = event.now
    ledger.tell(now.wall, None, "spot_notice", why=event.reason)
    ledger.changes.urgent = True
    if not being_ended:
        ledger.interrupting = event.reason
    if event.deadline is None:
        ledger.departure = Departure(inf, inf)
        return
    gone_at = now.mono + max(0.0, event.deadline - now.wall)
    ledger.gone_at = gone_at if ledger.gone_at is None else min(gone_at, ledger.gone_at)
    lead = inf if event.lead is None or being_ended else event.lead
    stop_at = max(now.mono, gone_at - lead)
    if departure is not None:
        stop_at, gone_at = min(stop_at, departure.stop_at), min(gone_at, departure.gone_at)
    ledger.departure = Departure(stop_at, gone_at)
    end_if_due(ledger, now)


def end_if_due(ledger: Ledger, now: Now) -> None:
    """End what runs if it is time to. Not before work has begun: an opening repeats all signals."""
    departure = ledger.departure
    if departure is None or departure.stop_at > now.mono or not ledger.open:
        return
    ledger.departure = None
    grace = grace_within(departure.gone_at - now.mono)
    stopping.stop_all(ledger, now.mono, now.wall, StopReason.INTERRUPTED, grace)


def overtake(ledger: Ledger, now: Now) -> float | None:
    """Something else ends what runs, now; the seconds that the departure leaves it, if limited."""
    departure, ledger.departure = ledger.departure, None
    if departure is None or departure.gone_at == inf:
        return None
    return grace_within(departure.gone_at - now.mono)


def grace_within(left: float) -> float:
    """Seconds that a job may take for its end when the machine goes in ``left`` seconds."""
    return max(0.0, min(MAX_GRACE, max(left - LAST_UPLOADS, left / 2)))
