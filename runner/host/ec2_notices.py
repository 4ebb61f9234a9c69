"""What EC2 announces to a machine, read from the service's texts. Pure.

A text that isn't what EC2 would say (a captive portal's page) is no notice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from typing import Annotated, Any, TypeVar

from runner.errors import RecordError
from runner.model.records import Check, Rule, choice, decode, read
from runner.model.records import text as plain_text
from runner.model.validation_errors import InvalidError
from runner.timestamps import rfc3339_seconds

T = TypeVar("T")

SPOT_PATH = "spot/instance-action"
REBALANCE_PATH = "events/recommendations/rebalance"
MAINTENANCE_PATH = "events/maintenance/scheduled"

_SPOT_ACTIONS = ("stop", "terminate", "hibernate")
_MAINTENANCE_CODES = ("instance-stop", "instance-retirement", "instance-reboot", "system-reboot")


class NoticeKind(Enum):
    """What sort of announcement it is."""

    SPOT = "spot interruption"
    REBALANCE = "rebalance recommendation"
    MAINTENANCE = "scheduled maintenance"


@dataclass(frozen=True, slots=True)
class Notice:
    """``action`` will happen (or is recommended since) ``time``, wall seconds. Equal: the same.

    ``left``: seconds until then when it was read, by the clock of the service that announces it;
    None where it doesn't tell the time, and only this machine's wall clock is there.
    """

    kind: NoticeKind
    action: str
    time: float
    event_id: str = ""
    left: float | None = field(default=None, compare=False)

    def seconds_left(self, wall: float) -> float:
        """Until it happens, where this machine's clock says ``wall``; negative: it is over."""
        return self.time - wall if self.left is None else self.left

    def __str__(self) -> str:
        moment = rfc3339_seconds(self.time)
        match self.kind:
            case NoticeKind.SPOT:
                return f"spot interruption at {moment}"
            case NoticeKind.REBALANCE:
                return f"rebalance recommendation of {moment}"
            case NoticeKind.MAINTENANCE:
                return f"scheduled maintenance ({self.action}) at {moment}"


def spot_notice(text: str) -> Notice | None:
    """``{"action": "stop", "time": "2017-09-18T08:22:00Z"}``."""
    told = _read(_Spot, _json(text))
    return None if told is None else Notice(NoticeKind.SPOT, told.action, told.time)


def rebalance_notice(text: str) -> Notice | None:
    """``{"noticeTime": "2020-10-27T08:22:00Z"}``."""
    told = _read(_Rebalance, _json(text))
    return (
        None
        if told is None
        else Notice(NoticeKind.REBALANCE, "rebalance-recommendation", told.time)
    )


def maintenance_notices(text: str) -> Iterator[Notice]:
    """The active ones of ``[{"NotBefore": "21 Jan 2019 09:00:43 GMT", "Code": …, …}]``."""
    events = _json(text)
    for event in events if isinstance(events, list) else []:
        if (told := _read(_Event, event)) is not None:
            yield Notice(NoticeKind.MAINTENANCE, told.code, told.time, str(told.event_id))


def _moment(form: str) -> Check:
    """Wall seconds of a time of this form, in UTC."""

    def check(value: Any) -> float:
        try:
            return datetime.strptime(plain_text(value), form).replace(tzinfo=UTC).timestamp()
        except (ValueError, OverflowError):
            raise InvalidError("is no time") from None

    return check


@dataclass(frozen=True, slots=True)
class _Spot:
    action: Annotated[str, Rule(choice(_SPOT_ACTIONS))]
    time: Annotated[float, Rule(_moment("%Y-%m-%dT%H:%M:%SZ"))]


@dataclass(frozen=True, slots=True)
class _Rebalance:
    time: Annotated[float, Rule(_moment("%Y-%m-%dT%H:%M:%SZ"), "noticeTime")]


@dataclass(frozen=True, slots=True)
class _Event:
    state: Annotated[str, Rule(choice(("active",)), "State")]
    code: Annotated[str, Rule(choice(_MAINTENANCE_CODES), "Code")]
    time: Annotated[float, Rule(_moment("%d %b %Y %H:%M:%S GMT"), "NotBefore")]
    event_id: Annotated[Any, Rule(key="EventId")] = ""


def _json(text: str) -> Any:
    try:
        return decode(text, "a notice")
    except RecordError:
        return None


def _read(cls: type[T], value: Any) -> T | None:
    try:
        return read(cls, value, "a notice")
    except RecordError:
        return None
