"""Cron, rates and time zones: what they mean, in EventBridge's spelling and in systemd's."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.model.recurrence.expressions import Cron, Rate, parse_expression
from runner.model.recurrence.firing_times import last_firings, next_firings, zone_of

NEW_YORK = "America/New_York"


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def told(expression: str, zone: str, after: str, count: int = 5) -> list[str]:
    found = next_firings(parse_expression(expression), zone_of(zone), at(after), count)
    return [datetime.fromtimestamp(each, UTC).strftime("%Y-%m-%d %H:%M") for each in found]


@pytest.mark.parametrize(
    ("text", "aws", "systemd"),
    [
        ("0 2 * * *", "cron(0 2 * * ? *)", ("*-*-* 02:00:00",)),
        ("*/15 * * * *", "cron(0,15,30,45 * * * ? *)", ("*-*-* *:00,15,30,45:00",)),
        ("30 4 1 * *", "cron(30 4 1 * ? *)", ("*-*-01 04:30:00",)),
        ("0 9 * * 1-5", "cron(0 9 ? * MON,TUE,WED,THU,FRI *)",
         ("Mon,Tue,Wed,Thu,Fri *-*-* 09:00:00",)),
        ("0 9 * * 7", "cron(0 9 ? * SUN *)", ("Sun *-*-* 09:00:00",)),
        ("0 9 * * fri-mon", "cron(0 9 ? * SUN,MON,FRI,SAT *)",
         ("Sun,Mon,Fri,Sat *-*-* 09:00:00",)),
        ("0 0 1 jan,jul *", "cron(0 0 1 JAN,JUL ? *)", ("*-01,07-01 00:00:00",)),
        ("@weekly", "cron(0 0 ? * SUN *)", ("Sun *-*-* 00:00:00",)),
        ("0 9 13 * 5", "", ("*-*-13 09:00:00", "Fri *-*-* 09:00:00")),
        ("cron(0 10 ? * 6L 2026-2027)", "cron(0 10 ? * 6L 2026-2027)", ()),
    ],
)  # fmt: skip
def test_an_expression_is_spelled_for_who_fires_it(
    text: str, aws: str, systemd: tuple[str, ...]
) -> None:
    """It would fire on other days than the user said: EventBridge counts Sunday as 1."""
    found = parse_expression(text)
    assert isinstance(found, Cron)
    assert (found.aws, found.systemd) == (aws, systemd)


@pytest.mark.parametrize(
    ("text", "every", "aws"),
    [("rate(1 hour)", 3600, "rate(1 hour)"), ("rate(5 minute)", 300, "rate(5 minutes)"),
     ("rate(2 days)", 172_800, "rate(2 days)")],
)  # fmt: skip
def test_a_rate_has_its_unit_as_the_service_wants_it(text: str, every: int, aws: str) -> None:
    """The service refuses `rate(1 hours)`, and nothing would be made."""
    assert parse_expression(text) == Rate(every, aws)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("0 2 * *", "not cron's five fields"),
        ("60 2 * * *", 'minute "60": "60" is not from 0 to 59'),
        ("0 2 * * 8", "day of the week"),
        ("0 2 30-3 * *", "30 comes after 3"),
        ("*/0 * * * *", "a step of 0"),
        ("0 2 * * MONDAY", "is not from 0 to 7"),
        ("0 2 ,1 * *", "is not understood"),
        ("@reboot", "of these there are @hourly"),
        ("rate(0 hours)", "is not a rate"),
        ("rate(1.5 hours)", "is not a rate"),
        ("cron(0 2 * * *)", "has not the six fields"),
        ("cron(0 2 * * * *)", "one of day-of-month and day-of-week is ?"),
        ("cron(0 2 ? * 2#6 *)", "a month has no week 6"),
        ("at(2026-11-28T02:00:00)", "happens once"),
        ("", "five fields"),
    ],
)
def test_what_is_none_is_refused_in_words(text: str, why: str) -> None:
    """A schedule that is never what was meant would be found by its bill."""
    with pytest.raises(ValueError, match=re.escape(why)):
        parse_expression(text)


@given(st.text(alphabet="0123456789*,-/?LW#()MONcronrateh@ ", max_size=30))
def test_no_text_is_more_than_a_value_error(text: str) -> None:
    """A typing mistake would be a traceback."""
    try:
        found = parse_expression(text)
    except ValueError:
        return
    assert found.aws.startswith(("cron(", "rate(")) or (isinstance(found, Cron) and found.systemd)


def test_spring_skips_the_hour_that_is_not_there() -> None:
    """Five times would be shown of which one doesn't come (8 March 2026, 2:00 in New York)."""
    assert told("30 2 * * *", NEW_YORK, "2026-03-06 12:00", 3) == [
        "2026-03-07 07:30",
        "2026-03-09 06:30",
        "2026-03-10 06:30",
    ]


def test_autumn_has_its_hour_once() -> None:
    """A machine would be looked for that is never launched (1 November 2026, 1:30 twice)."""
    assert told("30 1 * * *", NEW_YORK, "2026-10-31 04:00", 3) == [
        "2026-10-31 05:30",
        "2026-11-01 05:30",
        "2026-11-02 06:30",
    ]


def test_the_wall_clock_stays_where_it_is_across_both_changes() -> None:
    """The night's run would move into the day for half of the year."""
    assert told("0 2 * * *", NEW_YORK, "2026-10-31 12:00", 2) == [
        "2026-11-01 07:00",
        "2026-11-02 07:00",
    ]
    assert told("0 3 * * *", "Europe/Berlin", "2026-03-27 12:00", 3) == [
        "2026-03-28 02:00",
        "2026-03-29 01:00",
        "2026-03-30 01:00",
    ]


@pytest.mark.parametrize(
    ("expression", "days"),
    [
        ("cron(0 0 L * ? *)", ["2027-01-31", "2027-02-28", "2027-03-31"]),
        ("cron(0 0 1W * ? *)", ["2027-01-01", "2027-02-01", "2027-03-01"]),
        ("cron(0 0 15W * ? *)", ["2027-01-15", "2027-02-15", "2027-03-15"]),
        ("cron(0 0 LW * ? *)", ["2027-01-29", "2027-02-26", "2027-03-31"]),
        ("cron(0 0 ? * 6L *)", ["2027-01-29", "2027-02-26", "2027-03-26"]),
        ("cron(0 0 ? * MON#1 *)", ["2027-01-04", "2027-02-01", "2027-03-01"]),
        ("cron(0 0 29 2 ? *)", ["2028-02-29", "2032-02-29", "2036-02-29"]),
        ("0 0 31 * *", ["2027-01-31", "2027-03-31", "2027-05-31"]),
        ("0 0 13 * 5", ["2027-01-01", "2027-01-08", "2027-01-13"]),
    ],
)
def test_days_of_a_month_are_those_of_the_calendar(expression: str, days: list[str]) -> None:
    """The last of the month would be forgotten, or a leap year end the list."""
    found = [each[:10] for each in told(expression, "UTC", "2026-12-31 12:00", 3)]
    assert found == days[: len(found)]
    assert len(found) >= 2


def test_the_last_times_are_those_that_have_been_since_it_was_made() -> None:
    """Firings would be missed that nobody could have fired."""
    expression, zone = parse_expression("0 2 * * *"), zone_of("UTC")
    made, now = at("2026-11-25 12:00"), at("2026-11-28 02:00")
    assert last_firings(expression, zone, now, 5, made) == [
        at("2026-11-28 02:00"),
        at("2026-11-27 02:00"),
        at("2026-11-26 02:00"),
    ]
    rate = parse_expression("rate(1 hour)")
    assert last_firings(rate, zone, made + 7300, 5, made) == [made + 7200, made + 3600, made]
    assert next_firings(rate, zone, made + 7300, 2, made) == [made + 10_800, made + 14_400]


def test_a_schedule_of_a_year_that_is_over_has_no_more_times() -> None:
    """A look would never end."""
    assert told("cron(0 0 1 1 ? 2020)", "UTC", "2026-01-01 00:00") == []


def test_a_zone_that_is_none_is_told_with_the_one_that_was_meant() -> None:
    """The schedule would run in UTC, and nobody see why."""
    with pytest.raises(ValueError, match=r"no time zone such as .*New_York"):
        zone_of("America/NewYork")
    with pytest.raises(ValueError, match="no time zone"):
        zone_of("../../etc/passwd")
