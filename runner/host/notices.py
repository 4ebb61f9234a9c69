"""What EC2 announces to a machine, read from the service's texts. Pure.

A text that isn't what EC2 would say (a captive portal's page) is no notice.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any

SPOT_PATH = "spot/instance-action"
REBALANCE_PATH = "events/recommendations/rebalance"
MAINTENANCE_PATH = "events/maintenance/scheduled"

# Tuples: what is looked for may be anything that JSON has, not only what can be hashed.
_SPOT_ACTIONS = ("stop", "terminate", "hibernate")
_MAINTENANCE_CODES = ("instance-stop", "instance-retirement", "instance-reboot", "system-reboot")


class Kind(Enum):
    """What sort of announcement it is."""

    SPOT = "spot interruption"
    REBALANCE = "rebalance recommendation"
    MAINTENANCE = "scheduled maintenance"


@dataclass(frozen=True, slots=True)
class Notice:
    """``action`` will happen (or is recommended since) ``time``, wall seconds. Equal: the same."""

    kind: Kind
    action: str
    time: float
    event_id: str = ""

    def __str__(self) -> str:
        moment = rfc3339(self.time)
        match self.kind:
            case Kind.SPOT:
                return f"spot interruption at {moment}"
            case Kind.REBALANCE:
                return f"rebalance recommendation of {moment}"
            case Kind.MAINTENANCE:
                return f"scheduled maintenance ({self.action}) at {moment}"


def rfc3339(seconds: float) -> str:
    """``2026-01-22T14:05:30Z``."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def spot_notice(text: str) -> Notice | None:
    """``{"action": "stop", "time": "2017-09-18T08:22:00Z"}``."""
    told = _json(text)
    if not isinstance(told, dict) or told.get("action") not in _SPOT_ACTIONS:
        return None
    time = _time(told.get("time"))
    return None if time is None else Notice(Kind.SPOT, told["action"], time)


def rebalance_notice(text: str) -> Notice | None:
    """``{"noticeTime": "2020-10-27T08:22:00Z"}``."""
    told = _json(text)
    time = _time(told.get("noticeTime")) if isinstance(told, dict) else None
    return None if time is None else Notice(Kind.REBALANCE, "rebalance-recommendation", time)


def maintenance_notices(text: str) -> Iterator[Notice]:
    """The active ones of ``[{"NotBefore": "21 Jan 2019 09:00:43 GMT", "Code": …, …}]``."""
    told = _json(text)
    for event in told if isinstance(told, list) else []:
        if not isinstance(event, dict) or event.get("State") != "active":
            continue
        time = _time(event.get("NotBefore"), "%d %b %Y %H:%M:%S GMT")
        if time is not None and event.get("Code") in _MAINTENANCE_CODES:
            yield Notice(Kind.MAINTENANCE, event["Code"], time, str(event.get("EventId", "")))


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _time(text: Any, form: str = "%Y-%m-%dT%H:%M:%SZ") -> float | None:
    try:
        return datetime.strptime(text, form).replace(tzinfo=UTC).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None
