"""Checks of one JSON value of any field: strings, numbers, durations, choices, arrays, objects.

A check takes the JSON value and returns what the records hold, or raises InvalidError with words
for the user. Which field has which check is the business of ``fields``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Set
from typing import Any

from runner.model.durations import parse_duration
from runner.model.json_reader import is_ignored
from runner.model.messages import did_you_mean, kind, one_of, quoted, step
from runner.model.validation_errors import KEPT, Faults, InvalidError

Check = Callable[[Any], Any]


def check_object(
    raw: Any,
    checks: dict[str, Check],
    required: Set[str],
    faults: Faults,
    place: str = "",
) -> dict[str, Any]:
    """The valid fields of ``raw``; every error goes to ``faults``."""
    values: dict[str, Any] = {}
    if not isinstance(raw, dict):
        faults.add(place, f"must be an object, not {kind(raw)}")
        return values
    for key, value in raw.items():
        check = checks.get(key)
        if check is None:
            if not is_ignored(key):
                faults.add(place + step(key), "unknown key", key, checks)
            continue
        try:
            values[key] = check(value)
        except InvalidError as invalid:
            for inside, message in invalid.faults:
                faults.add(f"{place}.{key}{inside}", message)
    if not raw.keys() >= required:
        for key in sorted(required - raw.keys()):
            faults.add(f"{place}.{key}", "is required, but missing")
    return values


def check_string(value: Any) -> str:
    """Any string."""
    if not isinstance(value, str):
        raise InvalidError(f"must be a string, not {kind(value)}")
    return value


def check_text(value: Any) -> str:
    """A string that is not empty."""
    if not isinstance(value, str):
        raise InvalidError(f"must be a string, not {kind(value)}")
    if not value:
        raise InvalidError("must not be empty")
    return value


def size_of(text: str) -> int:
    """Bytes of UTF-8."""
    return len(text) if text.isascii() else len(text.encode(errors="surrogatepass"))


def check_duration(value: Any) -> float:
    """A Go duration string, as seconds."""
    try:
        return parse_duration(value)
    except ValueError as error:
        raise InvalidError(str(error))


def check_boolean(value: Any) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise InvalidError(f"must be true or false, not {kind(value)}")
    return value


def choice(choices: Collection[str]) -> Check:
    """One of these words."""

    shared = {choice: choice for choice in choices}

    def check(value: Any) -> str:
        if not isinstance(value, str):
            raise InvalidError(f"must be {one_of(choices)}, not {kind(value)}")
        if value not in shared:
            near = did_you_mean(value, choices)
            raise InvalidError(f"must be {one_of(choices)}, not {quoted(value)}{near}")
        return shared[value]

    return check


def whole(least: int, most: int) -> Check:
    """A whole number in this range, both ends included."""

    def check(value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            what = "one with a point" if isinstance(value, float) else kind(value)
            raise InvalidError(f"must be a whole number, not {what}")
        if not least <= value <= most:
            raise InvalidError(f"must be {least} to {most:,}")
        return value

    return check


def each(check: Check, what: str) -> Check:
    """An array of what ``check`` takes, as a tuple."""

    def check_all(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise InvalidError(f"must be an array of {what}, not {kind(value)}")
        try:
            return tuple([check(item) for item in value])
        except InvalidError:
            raise InvalidError(faults=_faults_of_each(check, value))

    return check_all


def _faults_of_each(check: Check, value: list[Any]) -> list[tuple[str, str]]:
    faults: list[tuple[str, str]] = []
    for index, item in enumerate(value):
        try:
            check(item)
        except InvalidError as invalid:
            faults += [(f"[{index}]{at}", text) for at, text in invalid.faults]
            if len(faults) > KEPT:
                break
    return faults
