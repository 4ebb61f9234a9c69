"""What a request's fields may be. Each reader raises UsageError that names the field."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, TypeVar

from runner.core.states import JobStatus
from runner.errors import UsageError
from runner.model.messages import one_of, quoted
from runner.model.records import each, text
from runner.model.validation_errors import InvalidError

Fields = Mapping[str, Any]

_MOST = 2**62
"""Far above any size or count, and still a number that the kernel takes."""

_texts = each(text)

_Default = TypeVar("_Default", int, None)


def word(fields: Fields, name: str) -> str:
    """A string that has to be there."""
    try:
        return text(fields.get(name))
    except InvalidError as error:
        raise UsageError(f'the request needs "{name}", a string: it {error}') from None


def words(fields: Fields, name: str) -> list[str] | None:
    """A list of strings, or None."""
    value = fields.get(name)
    if value is None:
        return None
    try:
        return list(_texts(value))
    except InvalidError:
        raise UsageError(f'"{name}" is a list of strings') from None


def choice(fields: Fields, name: str, choices: Collection[str]) -> str:
    """One of some words; the first is the default."""
    value = fields.get(name, next(iter(choices)))
    if not isinstance(value, str) or value not in choices:
        raise UsageError(f'"{name}" is {one_of(choices)}')
    return value


def statuses(fields: Fields, name: str) -> list[str] | None:
    """A list of job statuses, or None."""
    known = [status.value for status in JobStatus]
    values = words(fields, name)
    for value in values or ():
        if value not in known:
            raise UsageError(f"there is no status {quoted(value)}: it is {one_of(known)}")
    return values


def number(fields: Fields, name: str, default: _Default, *, least: int = 0) -> int | _Default:
    """A whole number from ``least`` on."""
    value = fields.get(name)
    if value is None:
        return default
    if type(value) is not int or not least <= value <= _MOST:
        raise UsageError(f'"{name}" is a whole number{f" from {least} on" if least >= 0 else ""}')
    return value


def seconds(fields: Fields, name: str, default: float) -> float:
    """A number of seconds, not negative."""
    value = fields.get(name)
    if value is None:
        return default
    if type(value) not in (int, float) or not 0 <= value <= _MOST:
        raise UsageError(f'"{name}" is a number of seconds')
    return float(value)


def since(fields: Fields, name: str) -> float | None:
    """A wall time in seconds since the epoch, or None."""
    return None if fields.get(name) is None else seconds(fields, name, 0.0)


def offsets(fields: Fields, name: str, choices: Collection[str]) -> dict[str, int] | None:
    """Where to begin in each of some streams, at least one; negative: from its end. Or None."""
    value = fields.get(name)
    if value is None:
        return None
    if not isinstance(value, dict) or not value or not value.keys() <= set(choices):
        raise UsageError(f'"{name}" is an object with a number for {one_of(choices)}')
    return {key: number(value, key, 0, least=-_MOST) for key in value}


def flag(fields: Fields, name: str) -> bool:
    """True or false; false when it isn't given."""
    value = fields.get(name)
    if value is not None and not isinstance(value, bool):
        raise UsageError(f'"{name}" is true or false')
    return bool(value)
