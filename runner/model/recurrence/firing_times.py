"""The times that an expression means, in a time zone, around a given time. Pure.

As EventBridge Scheduler does it: a wall-clock time that spring skips doesn't fire, and one that
autumn has twice fires once (Scheduler User Guide, "Daylight saving time"); which of both it is
isn't said there, and the first is taken here.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, tzinfo
from itertools import islice

from runner.model.messages import did_you_mean, quoted
from runner.model.recurrence.expressions import Cron, Rate

_MOST_DAYS = 366 * 8 + 3
"""Days to look at: a 29th of February is at most eight years away."""


def zone_of(name: str) -> tzinfo:
    """The zone of that name, as America/New_York. Raises ValueError with a message for the user."""
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        known = available_timezones()
    if not known:
        raise ValueError(
            "this computer has no time zones: install its package tzdata, or `pip install tzdata`"
        )
    hint = did_you_mean(name, sorted(known))
    raise ValueError(f"{quoted(name)} is no time zone such as America/New_York or UTC{hint}")


def next_firings(
    found: Cron | Rate, zone: tzinfo, after: float, count: int, made: float = 0.0
) -> list[float]:
    """The next times strictly after a time; seconds since the epoch. ``made``: when the schedule
    was, from which a rate counts. Fewer where there are no more in eight years."""
    if isinstance(found, Rate):
        first = int((after - made) // found.every) + 1
        return [made + found.every * n for n in range(max(0, first), max(0, first) + count)]
    began = datetime.fromtimestamp(after, zone).date() - timedelta(days=1)
    days = (began + timedelta(days=n) for n in range(_MOST_DAYS))
    times = (each for day in days for each in _of_day(found, zone, day))
    return list(islice((each for each in times if each > after), count))


def last_firings(
    found: Cron | Rate, zone: tzinfo, before: float, count: int, made: float
) -> list[float]:
    """The last times until a time, the newest first, and none before the schedule was ``made``."""
    if isinstance(found, Rate):
        newest = int((before - made) // found.every)
        return [
            made + found.every * n for n in range(newest, max(-1, newest - count), -1) if n >= 0
        ]
    latest = datetime.fromtimestamp(before, zone).date() + timedelta(days=1)
    earliest = datetime.fromtimestamp(made, zone).date() - timedelta(days=1)
    length = min(_MOST_DAYS, (latest - earliest).days + 1)
    days = (latest - timedelta(days=n) for n in range(length))
    times = (each for day in days for each in reversed(_of_day(found, zone, day)))
    return list(islice((each for each in times if made <= each <= before), count))


def _of_day(found: Cron, zone: tzinfo, day: date) -> list[float]:
    """Of one local day, in order."""
    if day.month not in found.months or not found.day(day):
        return []
    if found.years is not None and day.year not in found.years:
        return []
    return sorted(_moments(found, zone, day))


def _moments(found: Cron, zone: tzinfo, day: date) -> Iterator[float]:
    for hour in found.hours:
        for minute in found.minutes:
            wall = datetime(day.year, day.month, day.day, hour, minute, tzinfo=zone)
            moment = wall.astimezone(UTC)
            if moment.astimezone(zone).replace(tzinfo=None) == wall.replace(tzinfo=None):
                yield moment.timestamp()
