"""When something recurs, as people write it: five-field cron, ``cron(…)``, ``rate(…)``.

Owns reading each, EventBridge's spelling of it, and systemd's. Pure: the times that it means are in
``firing_times``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from runner.model.messages import quoted
from runner.model.recurrence.days import DayRule, of_month, of_week, weekday_of
from runner.model.recurrence.fields import (
    CRON_WEEKDAY,
    DAY,
    HOUR,
    MINUTE,
    MONTH,
    WEEKDAYS,
    YEAR,
    FieldKind,
    numbers,
)

MOST = 256
"""Characters of an expression (Scheduler API reference, "CreateSchedule")."""

_ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_RATE = re.compile(r"rate\(\s*([0-9]{1,9})\s+(minute|hour|day)s?\s*\)")
_UNITS = {"minute": 60, "hour": 3600, "day": 86_400}


@dataclass(frozen=True, slots=True)
class Rate:
    """Every so many seconds, counted from when the schedule was made."""

    every: int
    aws: str


@dataclass(frozen=True, slots=True)
class Cron:
    """Wall-clock times. ``aws``: EventBridge's spelling; ``systemd``: those of OnCalendar, without
    a zone, empty where systemd has none. ``years``: None is every one."""

    minutes: frozenset[int]
    hours: frozenset[int]
    months: frozenset[int]
    day: DayRule = field(compare=False)
    years: frozenset[int] | None
    aws: str
    systemd: tuple[str, ...] = ()


def parse_expression(text: str) -> Cron | Rate:
    """Any of the three. Raises ValueError with a message for the user."""
    told = " ".join(text.split())
    if told.startswith("rate("):
        return _rate(told)
    if told.startswith("cron("):
        return _aws_cron(told)
    if told.startswith("at("):
        raise ValueError(
            f"{quoted(text)} happens once: `runner launch` does that; a schedule recurs"
        )
    if told.startswith("@") and told not in _ALIASES:
        raise ValueError(f"{quoted(text)}: of these there are {', '.join(_ALIASES)}")
    return _five_fields(_ALIASES.get(told, told))


def _rate(text: str) -> Rate:
    match = _RATE.fullmatch(text)
    if match is None or int(match[1]) == 0:
        raise ValueError(f"{quoted(text)} is not a rate such as rate(1 hour) or rate(5 minutes)")
    number, unit = int(match[1]), match[2]
    # The unit of 1 is in the singular, or the service refuses it.
    return Rate(number * _UNITS[unit], f"rate({number} {unit}{'' if number == 1 else 's'})")


def _aws_cron(text: str) -> Cron:
    fields = text.removeprefix("cron(").removesuffix(")").split()
    if not text.endswith(")") or len(fields) != 6:
        raise ValueError(
            f"{quoted(text)} has not the six fields of cron(minutes hours day-of-month month "
            "day-of-week year)"
        )
    minutes, hours, day, month, weekday, year = (each.upper() for each in fields)
    if (day == "?") == (weekday == "?"):
        raise ValueError(f"{quoted(text)}: one of day-of-month and day-of-week is ?, not both")
    return Cron(
        numbers(minutes, MINUTE),
        numbers(hours, HOUR),
        numbers(month, MONTH),
        of_week(weekday) if day == "?" else of_month(day),
        None if year == "*" else numbers(year, YEAR),
        f"cron({minutes} {hours} {day} {month} {weekday} {year})",
    )


def _five_fields(text: str) -> Cron:
    fields = text.split()
    if len(fields) != 5:
        raise ValueError(
            f"{quoted(text)} is not cron's five fields (minute hour day-of-month month "
            'day-of-week), such as "0 2 * * *", nor cron(…), nor rate(…)'
        )
    minute, hour, day, month, weekday = fields
    days = numbers(day, DAY)
    # 7 is Sunday, as 0 is.
    weekdays = frozenset(each % 7 for each in numbers(weekday, CRON_WEEKDAY))
    minutes, hours, months = numbers(minute, MINUTE), numbers(hour, HOUR), numbers(month, MONTH)
    any_day, any_weekday = day.startswith("*"), weekday.startswith("*")
    named = ",".join(WEEKDAYS[each] for each in sorted(weekdays))
    aws = [_aws(minute, MINUTE), _aws(hour, HOUR), _aws(day, DAY), _aws(month, MONTH), "?"]
    if not any_day and not any_weekday:
        # crontab(5): either of them is enough then; EventBridge can't say that.
        aws = []
    elif weekday != "*" and day == "*":
        aws = [*aws[:2], "?", aws[3], named]
    elif weekday != "*":
        aws = []
    spelled = f"cron({' '.join(aws)} *)" if aws else ""
    if len(spelled) > MOST:
        raise ValueError(f"{quoted(text)} is too long for EventBridge: at most {MOST} characters")

    def allows_either(found_day: bool, found_weekday: bool) -> bool:
        return found_day and found_weekday if any_day or any_weekday else found_day or found_weekday

    return Cron(
        minutes,
        hours,
        months,
        lambda each: allows_either(each.day in days, weekday_of(each) in weekdays),
        None,
        spelled,
        _on_calendar(minutes, hours, months, days, weekdays, any_day or any_weekday),
    )


def _aws(text: str, kind: FieldKind) -> str:
    """EventBridge has no step of a range, and no step of ``*`` where the first number isn't 0."""
    if "/" not in text:
        return text.upper()
    return ",".join(map(str, sorted(numbers(text, kind))))


def _on_calendar(
    minutes: frozenset[int],
    hours: frozenset[int],
    months: frozenset[int],
    days: frozenset[int],
    weekdays: frozenset[int],
    both: bool,
) -> tuple[str, ...]:
    """systemd.time(7), "Calendar events": a day of the week and a date are both to be met."""
    clock = f"{_listed(hours, HOUR)}:{_listed(minutes, MINUTE)}:00"
    month = _listed(months, MONTH)
    week = "" if len(weekdays) == 7 else ",".join(WEEKDAYS[w].title() for w in sorted(weekdays))
    if both:
        return (" ".join(filter(None, (week, f"*-{month}-{_listed(days, DAY)}", clock))),)
    return (f"*-{month}-{_listed(days, DAY)} {clock}", f"{week} *-{month}-* {clock}")


def _listed(found: frozenset[int], kind: FieldKind) -> str:
    if len(found) == kind.high - kind.low + 1:
        return "*"
    return ",".join(f"{each:02}" for each in sorted(found))
