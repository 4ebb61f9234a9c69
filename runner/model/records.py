"""Records from outside: a JSON value becomes a frozen dataclass, or an error that names it.

The one door for what was stored, sent or left on a disk, by this program, another version of it, or
anybody else. What a field may hold is said by its annotation, in the dataclass itself; a type
without a rule of its own allows what every record may hold. Owns the reading of JSON (encoding,
NaN, depth) and the checks of types and ranges. What fields mean to each other is for the callers.

Documents that people write are read by ``json_reader`` and checked by ``fields``, which report all
errors at once and the nearest known key. Here the first error refuses the whole record.
"""

from __future__ import annotations

import functools
import json
import re
import types
from collections.abc import Callable, Collection, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from enum import Enum
from math import isfinite
from typing import Annotated, Any, NoReturn, TypeVar, Union, get_args, get_origin, get_type_hints

from runner.errors import RecordError
from runner.model.messages import kind, one_of, quoted, step
from runner.model.validation_errors import InvalidError

T = TypeVar("T")

Check = Callable[[Any], Any]
"""Takes a JSON value, returns what the record holds; raises InvalidError."""

MOST = 2**53
"""The largest whole number that every JSON parser keeps exactly (RFC 8259, section 6)."""

LAST_SECOND = 221_845_392_000
"""9000-01-01: what is added to it is a date as well, and ``datetime`` ends with the year 9999."""

_LARGEST = 2**64
"""No number of bytes, seconds or things comes near it; in a message a larger one would only fill
the screen, and no float may hold it."""

_SURROGATE = re.compile("[\ud800-\udfff]")


# -- checks --------------------------------------------------------------------------------------


def text(value: Any) -> str:
    """A string that can be written as UTF-8 and passed to the kernel."""
    if type(value) is not str:
        raise InvalidError(f"must be a string, not {kind(value)}")
    if "\0" in value:
        raise InvalidError("must not hold a NUL character")
    if not value.isascii() and _SURROGATE.search(value):
        raise InvalidError("holds a lone surrogate, which is no character")
    return value


def matching(pattern: str, what: str) -> Check:
    """A string of this form; ``what`` names the form in the message."""
    compiled = re.compile(pattern)

    def check(value: Any) -> str:
        if not compiled.fullmatch(text(value)):
            raise InvalidError(f"{quoted(value)} is not {what}")
        return str(value)

    return check


def boolean(value: Any) -> bool:
    """true or false, and nothing that only counts as it."""
    if value is not True and value is not False:
        raise InvalidError(f"must be true or false, not {kind(value)}")
    return value


def whole(least: int, most: int = MOST) -> Check:
    """A whole number, both ends included."""

    def check(value: Any) -> int:
        if type(value) is not int:
            what = "one with a point" if type(value) is float else kind(value)
            raise InvalidError(f"must be a whole number, not {what}")
        if not least <= value <= most:
            raise InvalidError(f"must be {least} to {most}")
        return value

    return check


def number(least: float, most: float = MOST) -> Check:
    """A finite number, both ends included, as a float."""

    def check(value: Any) -> float:
        if type(value) is not float and type(value) is not int:
            raise InvalidError(f"must be a number, not {kind(value)}")
        if not least <= value <= most:  # so is NaN refused, and an int that no float can hold
            raise InvalidError(f"must be {least} to {most}")
        return float(value)

    return check


def choice(words: Collection[str]) -> Check:
    """One of these strings."""
    known = {word: word for word in words}

    def check(value: Any) -> str:
        if type(value) is not str or value not in known:
            told = quoted(value) if type(value) is str else kind(value)
            raise InvalidError(f"must be {one_of(known)}, not {told}")
        return known[value]

    return check


def each(check: Check) -> Check:
    """An array of such values, as a tuple."""

    def check_all(value: Any) -> tuple[Any, ...]:
        if type(value) is not list:
            raise InvalidError(f"must be an array, not {kind(value)}")
        found = []
        for index, item in enumerate(value):
            try:
                found.append(check(item))
            except InvalidError as error:
                raise _within(f"[{index}]", error) from None
        return tuple(found)

    return check_all


def each_named(check: Check) -> Check:
    """An object of any keys with such values, as a dict."""

    def check_all(value: Any) -> dict[str, Any]:
        if type(value) is not dict:
            raise InvalidError(f"must be an object, not {kind(value)}")
        found = {}
        for key, item in value.items():
            try:
                found[text(key)] = check(item)
            except InvalidError as error:
                raise _within(step(key), error) from None
        return found

    return check_all


@dataclass(frozen=True, slots=True)
class Rule:
    """In ``Annotated[type, Rule(…)]``: the check of a field (None: its type's own).

    ``key``: what the field is called in the record, if not as in the dataclass.
    """

    check: Check | None = None
    key: str | None = None


Count = Annotated[int, Rule(whole(0))]
"""How many, or the number of an attempt, an epoch, an offset."""

Seconds = Annotated[float, Rule(number(0))]
"""A length of time, or a moment of a monotonic clock."""

WallTime = Annotated[float, Rule(number(0, LAST_SECOND))]
"""A moment in seconds since the epoch that can be shown as a date."""

identifier = matching(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", "an id")
"""A string that may be a queue's, job's or run's."""

Name = Annotated[str, Rule(identifier)]
"""A queue's, job's or run's: it is also the name of a folder and a part of keys."""

JobName = Annotated[
    str, Rule(matching(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}(\[[0-9]{1,4}\])?", "an id"))
]
"""A job's, or that of an array's element: ``x[17]``."""


# -- records -------------------------------------------------------------------------------------


def decode(data: bytes | str, name: str) -> Any:
    """The JSON value in ``data``. Raises RecordError, which begins with ``name``, for none."""
    try:
        return _decode(data if isinstance(data, str) else data.decode())
    except UnicodeDecodeError as error:
        raise RecordError(f"{name}: byte {error.start} is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise RecordError(f"{name}: is not JSON: {error.msg.lower()} at {error.pos}") from None
    except ValueError as error:  # NaN, 1e999, an int of many digits
        raise RecordError(f"{name}: is not JSON: {error}") from None
    except RecursionError:
        raise RecordError(f"{name}: is nested too deeply") from None


def read(cls: type[T], value: Any, name: str, *, strict: bool = False) -> T:
    """The record in a JSON value. Raises RecordError, which begins with ``name``.

    Keys that ``cls`` doesn't know are ignored: a later version may have written them. With
    ``strict`` they are refused, for what they say must not get lost.
    """
    try:
        made: T = _reader(cls, strict)(value)  # type: ignore[arg-type]  # a class has a hash
    except InvalidError as error:
        place, message = error.faults[0]
        where = f"{place.removeprefix('.')}: " if place else ""
        raise RecordError(f"{name}: {where}{message}") from None
    except RecursionError:
        raise RecordError(f"{name}: is nested too deeply") from None
    return made


def parse(cls: type[T], data: bytes | str, name: str, *, strict: bool = False) -> T:
    """``read`` of what ``decode`` finds. Raises RecordError."""
    return read(cls, decode(data, name), name, strict=strict)


def keys(cls: type[Any]) -> frozenset[str]:
    """What the fields of a record are called in JSON."""
    return frozenset(_fields_of(cls, strict=False))


def fields_by_key(cls: type[Any]) -> dict[str, Field[Any]]:
    """The fields of a record by what they are called in JSON, in their order."""
    return {key: field for key, (field, _) in _fields_of(cls, strict=False).items()}


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _whole(text: str) -> int:
    if len(text) > _DIGITS or not -_LARGEST <= (value := int(text)) <= _LARGEST:
        raise ValueError("a number is out of range")
    return value


def _finite(text: str) -> float:
    if not isfinite(value := float(text)):
        raise ValueError("a number is out of range")
    return value


_DIGITS = len(str(-_LARGEST))

_decode = json.JSONDecoder(
    parse_constant=_refuse_constant, parse_int=_whole, parse_float=_finite
).decode


@functools.cache
def _reader(cls: type[Any], strict: bool) -> Check:
    """The check of an object that becomes a ``cls``. Made when the first is read."""
    checks = _fields_of(cls, strict)
    required = {
        key
        for key, (field, _) in checks.items()
        if field.default is MISSING and field.default_factory is MISSING
    }

    def check_record(value: Any) -> Any:
        if type(value) is not dict:
            raise InvalidError(f"must be an object, not {kind(value)}")
        made = {}
        for key, item in value.items():
            if (known := checks.get(key)) is None:
                if strict:
                    raise _within(step(key), InvalidError("unknown key"))
                continue
            try:
                made[known[0].name] = known[1](item)
            except InvalidError as error:
                raise _within(step(key), error) from None
        if not value.keys() >= required:
            missing = min(required - value.keys())
            raise _within(step(missing), InvalidError("is required, but missing"))
        return cls(**made)

    return check_record


def _fields_of(cls: type[Any], strict: bool) -> dict[str, tuple[Field[Any], Check]]:
    """The fields by the keys that they have in a record, each with its check."""
    hints = get_type_hints(cls, include_extras=True)
    found = {}
    for field in fields(cls):
        check, key = _check_of(hints[field.name], strict)
        found[key or field.name] = field, check
    return found


def _check_of(hint: Any, strict: bool) -> tuple[Check, str | None]:
    """The check of a field with this annotation, and its key, if it has another name."""
    if get_origin(hint) is Annotated:
        base, *more = get_args(hint)
        rules = [each for each in more if isinstance(each, Rule)]
        if rules:
            return rules[-1].check or _check_of(base, strict)[0], rules[-1].key
        return _check_of(base, strict)
    return _check_of_type(hint, strict), None


def _check_of_type(hint: Any, strict: bool) -> Check:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (types.UnionType, Union):
        (inner,) = (each for each in arguments if each is not types.NoneType)
        check = _check_of(inner, strict)[0]
        return lambda value: None if value is None else check(value)
    if origin is tuple:
        return each(_check_of(arguments[0], strict)[0])
    if origin in (dict, Mapping):
        return each_named(_check_of(arguments[1], strict)[0])
    if is_dataclass(hint) and isinstance(hint, type):
        # Looked up when it is needed: a record may hold one of its own kind.
        return lambda value: _reader(hint, strict)(value)
    if isinstance(hint, type) and issubclass(hint, Enum):
        check = choice([member.value for member in hint])
        return lambda value: hint(check(value))
    return _PLAIN[hint]


_PLAIN: dict[Any, Check] = {
    Any: lambda value: value,
    str: text,
    bool: boolean,
    int: whole(-MOST),
    float: number(-MOST),
}


def _within(place: str, error: InvalidError) -> InvalidError:
    return InvalidError(faults=[(f"{place}{at}", message) for at, message in error.faults])
