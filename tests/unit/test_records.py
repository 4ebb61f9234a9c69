"""Records from outside: read as a whole, or refused with their name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any

import pytest

from runner.errors import RecordError
from runner.model.records import Count, Name, Rule, Seconds, WallTime, decode, parse, read, whole


class Colour(str, Enum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True, slots=True)
class Part:
    size: Count
    colour: Colour = Colour.RED
    inner: Part | None = None


@dataclass(frozen=True, slots=True)
class Whole:
    name: Name
    parts: tuple[Part, ...] = ()
    length: Seconds = 0.0
    at: WallTime | None = None
    words: Mapping[str, str] | None = None
    done: bool = False
    code: Annotated[int | None, Rule(whole(0, 255), "exit_code")] = None
    balance: float = 0.0


def test_a_record_is_read_whole() -> None:
    """What was written could not be read again."""
    data = (
        b'{"name": "a", "parts": [{"size": 1, "colour": "blue", "inner": {"size": 2}}],'
        b' "length": 3, "at": null, "words": {"x": "y"}, "done": true, "exit_code": 7,'
        b' "balance": -0.5, "new": 1}'
    )
    inner = Part(1, Colour.BLUE, Part(2))
    wanted = Whole("a", (inner,), 3.0, None, {"x": "y"}, done=True, code=7, balance=-0.5)
    assert parse(Whole, data, "it") == wanted
    assert type(parse(Whole, data, "it").length) is float


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": 1}, "name: must be a string, not a number"),
        ({"name": "../up"}, 'name: "../up" is not an id'),
        ({"name": "a\n"}, 'name: "a\\u000a" is not an id'),
        ({"name": "a\ud800"}, "name: holds a lone surrogate, which is no character"),
        ({"words": {"x": "\0"}}, "words.x: must not hold a NUL character"),
        (
            {"words": {"\udfff": ""}},
            'words["\\udfff"]: holds a lone surrogate, which is no character',
        ),
        ({"words": {"x": None}}, "words.x: must be a string, not null"),
        ({"words": []}, "words: must be an object, not an array"),
        ({"parts": [{"size": 1}, {"size": -1}]}, "parts[1].size: must be 0 to 9007199254740992"),
        ({"parts": [{"size": True}]}, "parts[0].size: must be a whole number, not true"),
        ({"parts": [{"size": 1.0}]}, "parts[0].size: must be a whole number, not one with a point"),
        ({"parts": [{}]}, "parts[0].size: is required, but missing"),
        ({"parts": {"size": 1}}, "parts: must be an array, not an object"),
        ({"parts": [[]]}, "parts[0]: must be an object, not an array"),
        ({"parts": [{"size": 1, "inner": {"size": "1"}}]}, "parts[0].inner.size: must be a whole"),
        ({"parts": [{"size": 1, "colour": "green"}]}, 'must be "red" or "blue", not "green"'),
        ({"parts": [{"size": 1, "colour": ["red"]}]}, 'must be "red" or "blue", not an array'),
        ({"length": -0.001}, "length: must be 0 to"),
        ({"length": 10**400}, "length: must be 0 to"),
        ({"length": "1"}, "length: must be a number, not a string"),
        ({"length": False}, "length: must be a number, not false"),
        ({"at": 253_402_300_799}, "at: must be 0 to 221845392000"),
        ({"done": 1}, "done: must be true or false, not a number"),
        ({"exit_code": 256}, "exit_code: must be 0 to 255"),
        ({"balance": None}, "balance: must be a number, not null"),
    ],
)
def test_a_wrong_value_refuses_the_record(change: dict[str, Any], message: str) -> None:
    """Something would get in that nobody has looked at, or the message would not say what."""
    with pytest.raises(RecordError) as caught:
        read(Whole, {"name": "a", **change}, "the thing")
    assert str(caught.value).startswith("the thing: ")
    assert message in str(caught.value)


@pytest.mark.parametrize("value", [None, [], "a", 1, True])
def test_what_is_no_object_is_no_record(value: Any) -> None:
    """A list would be taken for a record without fields."""
    with pytest.raises(RecordError, match="it: must be an object, not"):
        read(Part, value, "it")


def test_strict_refuses_what_it_does_not_know() -> None:
    """An older version would go on without what a newer one had noted, at any depth."""
    with pytest.raises(RecordError, match=r"it: inner\.later: unknown key"):
        read(Part, {"size": 1, "inner": {"size": 1, "later": 2}}, "it", strict=True)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b'{"a": NaN}',
        b"[Infinity]",
        b"[-Infinity]",
        b"\xff\xfe{\x00}\x00",
        b'\xef\xbb\xbf{"a": 1}',
        b'"\xed\xa0\x80"',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"9" * 5000,
        b"{} {}",
    ],
)
def test_what_is_no_json_is_refused(data: bytes) -> None:
    """An error that nobody catches would end whoever reads it."""
    with pytest.raises(RecordError, match=r"^it: "):
        decode(data, "it")


def test_an_overflowing_number_is_no_number() -> None:
    """JSON's 1e999 becomes infinity, which every comparison would let through."""
    for huge in (b"1e999", b"-1e999", b"9" * 400):
        with pytest.raises(RecordError, match=r"^it: is not JSON: a number is out of range"):
            parse(Whole, b'{"name": "a", "length": ' + huge + b"}", "it")


def test_depth_is_no_crash() -> None:
    """A record may hold one of its own kind: a deep one would overflow the stack."""
    value: dict[str, Any] = {"size": 1}
    for _ in range(5000):
        value = {"size": 1, "inner": value}
    with pytest.raises(RecordError, match="nested too deeply"):
        read(Part, value, "it")


def test_an_allowed_value_comes_back_as_json_had_it() -> None:
    """A check would change what it only looks at."""
    plain = {"size": 2**53, "colour": "red", "inner": None}
    found = read(Part, json.loads(json.dumps(plain)), "it")
    assert found == Part(2**53)
