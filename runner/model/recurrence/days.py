"""Which days a cron expression allows: days of the month, days of the week, and both together.

Owns EventBridge's ``L``, ``W`` and ``#`` (Scheduler User Guide, "Cron-based schedules").
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, timedelta

from runner.model.messages import quoted
from runner.model.recurrence.fields import AWS_WEEKDAY, DAY, numbers

DayRule = Callable[[date], bool]


def weekday_of(day: date) -> int:
    """0 is Sunday."""
    return day.isoweekday() % 7


def last_of(day: date) -> int:
    """The last day of its month."""
    following = day.replace(day=28) + timedelta(days=4)
    return (following - timedelta(days=following.day)).day


def of_month(text: str) -> DayRule:
    """What EventBridge's third field allows; raises ValueError."""
    if text == "L":
        return lambda day: day.day == last_of(day)
    if text == "LW":
        return lambda day: day.day == _nearest_weekday(day, last_of(day))
    if match := re.fullmatch(r"([0-9]{1,2})W", text):
        (number,) = numbers(match[1], DAY)
        return lambda day: day.day == _nearest_weekday(day, min(number, last_of(day)))
    allowed = numbers(text, DAY)
    return lambda day: day.day in allowed


def of_week(text: str) -> DayRule:
    """What EventBridge's fifth field allows; raises ValueError."""
    if match := re.fullmatch(r"([0-9A-Za-z]+)#([0-9])", text):
        allowed, nth = numbers(match[1], AWS_WEEKDAY), int(match[2])
        if not 1 <= nth <= 5:
            raise ValueError(f"day of the week {quoted(text)}: a month has no week {nth}")
        return lambda day: weekday_of(day) + 1 in allowed and (day.day + 6) // 7 == nth
    if text == "L":
        text = "SAT"
    elif match := re.fullmatch(r"([1-7]|[A-Za-z]{3})L", text):
        allowed = numbers(match[1], AWS_WEEKDAY)
        return lambda day: weekday_of(day) + 1 in allowed and day.day + 7 > last_of(day)
    allowed = numbers(text, AWS_WEEKDAY)
    return lambda day: weekday_of(day) + 1 in allowed


def _nearest_weekday(month: date, number: int) -> int:
    """The weekday from Monday to Friday that is nearest to a day, and of the same month."""
    day = month.replace(day=number)
    match weekday_of(day):
        case 6:
            return number - 1 if number > 1 else number + 2
        case 0:
            return number + 1 if number < last_of(month) else number - 2
        case _:
            return number
