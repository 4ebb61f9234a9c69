"""Durations: what is accepted, what the errors say, and that printing loses nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.model.durations import LONGEST, format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30),
        ("1h30m", 5400),
        ("1.5h", 5400),
        ("300ms", 0.3),
        ("1m30.5s", 90.5),
        (".5s", 0.5),
        ("1.s", 1),
        ("30m1h", 5400),
        ("5us", 5e-6),
        ("5µs", 5e-6),
        ("5μs", 5e-6),
        ("1000ns", 1e-6),
        ("87600h", LONGEST),
    ],
)
def test_reads_go_durations(text: str, seconds: float) -> None:
    """A duration that Go reads would be refused, or read as another length."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "h",
        "1",
        "-5s",
        "+5s",
        " 5s",
        "5s ",
        "5s\n",
        "1e3s",
        "٣s",
        "1..5s",
        ".s",
        "1S",
        "1h-5m",
        "1y",
        "1w",
        "2mm",
        "inf",
        "nan",
        "1h 30m",
        "0x1s",
        "1h" * 40,
        "5s\0",
        "\ud800s",
        "0",
    ],
)
def test_refuses_what_go_refuses(text: str) -> None:
    """A typing error would become some length of time."""
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("1d", 'write "24h"'),
        ("7d", 'write "168h"'),
        (90, '"90s", not a number'),
        (1.5, '"90s", not a number'),
        (True, '"90s", not true'),
        (None, "not null"),
        ([], "not an array"),
        ("0s", "longer than 0"),
        ("1ns", "longer than 0"),
        ("87601h", 'at most "87600h"'),
        ("9" * 60 + "h", 'at most "87600h"'),
    ],
)
def test_errors_say_what_to_write(value: object, message: str) -> None:
    """The user would be told that it is wrong, but not what is right."""
    with pytest.raises(ValueError, match=message):
        parse_duration(value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (7200, "2h0m0s"),
        (90, "1m30s"),
        (1.5, "1.5s"),
        (0.3, "300ms"),
        (0.0015, "1.5ms"),
        (1.5e-6, "1.5µs"),
        (3e-9, "3ns"),
        (3600.25, "1h0m0.25s"),
        (60, "1m0s"),
        (0.9999999999, "1s"),
        (59.9999999, "1m0s"),
        (-1.5, "-1.5s"),
        (LONGEST, "87600h0m0s"),
    ],
)
def test_prints_as_go_prints(seconds: float, text: str) -> None:
    """Messages such as `global timeout 8h0m0s exceeded` would not be the guide's."""
    assert format_duration(seconds) == text


@given(st.integers(min_value=1, max_value=int(LONGEST) * 1_000_000))
def test_printing_loses_nothing(micros: int) -> None:
    """A stored document would not be the one that was submitted."""
    seconds = parse_duration(f"{micros}us")
    assert parse_duration(format_duration(seconds)) == seconds


@given(st.text(max_size=80) | st.from_regex(r"[0-9.]{1,9}[a-zµ]{1,3}[0-9.]{0,9}[hms]?"))
def test_never_another_exception(text: str) -> None:
    """A strange duration would end in a traceback."""
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        message = str(error)
    else:
        message = format_duration(seconds)
        assert 0 < seconds <= LONGEST
    assert message.isprintable()
