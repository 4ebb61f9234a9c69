"""One field of a cron expression: the numbers that it allows.

Owns the syntax of lists, ranges and steps, which five-field cron and EventBridge's share. A number
that follows a slash steps to the field's end. It must not know what a field is for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from runner.model.messages import quoted

_ITEM = re.compile(r"(\*|[0-9A-Za-z]+(?:-[0-9A-Za-z]+)?)(?:/([0-9]{1,4}))?")


@dataclass(frozen=True, slots=True)
class FieldKind:
    """``names``: words for numbers, in capitals. ``wraps``: a range may go over the end."""

    what: str
    low: int
    high: int
    names: Mapping[str, int] = field(default_factory=dict)
    wraps: bool = False


MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
WEEKDAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")

MINUTE = FieldKind("minute", 0, 59)
HOUR = FieldKind("hour", 0, 23)
DAY = FieldKind("day of the month", 1, 31)
MONTH = FieldKind("month", 1, 12, {name: number for number, name in enumerate(MONTHS, 1)})
CRON_WEEKDAY = FieldKind(
    "day of the week", 0, 7, {name: number for number, name in enumerate(WEEKDAYS)}, wraps=True
)
"""Of five-field cron: 0 and 7 are Sunday (crontab(5))."""
AWS_WEEKDAY = FieldKind(
    "day of the week", 1, 7, {name: number for number, name in enumerate(WEEKDAYS, 1)}, wraps=True
)
"""Of EventBridge: 1 is Sunday (Scheduler User Guide, "Cron-based schedules")."""
YEAR = FieldKind("year", 1970, 2199)


def numbers(text: str, kind: FieldKind) -> frozenset[int]:
    """The numbers that a field allows. Raises ValueError, which names the field."""
    found: set[int] = set()
    for item in text.upper().split(","):
        match = _ITEM.fullmatch(item)
        if match is None:
            raise ValueError(f"{kind.what} {quoted(text)}: {quoted(item)} is not understood")
        found.update(_of_item(text, match[1], match[2], kind))
    return frozenset(found)


def _of_item(text: str, what: str, step: str | None, kind: FieldKind) -> Sequence[int]:
    if step is not None and int(step) == 0:
        raise ValueError(f"{kind.what} {quoted(text)}: a step of 0 goes nowhere")
    if what == "*":
        low, high = kind.low, kind.high if kind is not CRON_WEEKDAY else 6
    else:
        first, dash, last = what.partition("-")
        low = _number(text, first, kind)
        high = _number(text, last, kind) if dash else (kind.high if step else low)
    if low > high:
        if not kind.wraps:
            raise ValueError(f"{kind.what} {quoted(text)}: {low} comes after {high}")
        high += 7
    steps = range(low, high + 1, int(step or 1))
    if not kind.wraps:
        return steps
    return [each if each <= kind.high else each - 7 for each in steps]


def _number(text: str, word: str, kind: FieldKind) -> int:
    number = kind.names.get(word)
    if number is None and word.isdigit() and len(word) <= 4:
        number = int(word)
    if number is None or not kind.low <= number <= kind.high:
        raise ValueError(
            f"{kind.what} {quoted(text)}: {quoted(word)} is not from {kind.low} to {kind.high}"
        )
    return number
