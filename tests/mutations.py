"""Damage to a record, by seed: what a bad disk, another version or an attacker makes of it."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 255, 256, 2**31, 2**53 + 1, 2**63, 2**64 + 1, -(2**63), 10**30,
    0.0, -0.5, 1.5, 1e300, -1e300, "", "x", "0", "-1", "1e999", "\0", "\ud800", "..", "../x", "/x",
    "a/../b", "%2E%2E/x", "\u2028", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00+14:00",
    "2026-01-22T14:05:30", "2026-13-01T00:00:00Z", "completed", "running", "deadbeef", [], {},
    [[]], [None], {"": None}, {"a": 1}, "x" * 5000,
)  # fmt: skip
"""Values of every type, and numbers and texts at and over their bounds."""

RAW = (
    b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-1e999", b"9" * 400, b"9" * 5000, b"1e-999",
    *(b"[" * depth + b"]" * depth for depth in (100, 900, 5000)),
    *(b'{"before":' * depth + b"{}" + b"}" * depth for depth in (100, 300, 900, 5000)),
)  # fmt: skip
"""What Python's json takes for numbers, and JSON or a float has no room for; and what is deep."""

_HOLE = "@hole@"


def damaged(sample: Any, draw: random.Random) -> bytes:
    """The JSON of a sample with one to three kinds of damage."""
    value = copy.deepcopy(sample)
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        value = _changed(value, draw)
    data = json.dumps(value, ensure_ascii=draw.random() < 0.5).encode("utf-8", "surrogatepass")
    hole = json.dumps(_HOLE).encode()
    while hole in data:
        data = data.replace(hole, draw.choice(RAW), 1)
    return spoiled(data, draw) if draw.random() < 0.25 else data


def spoiled(data: bytes, draw: random.Random) -> bytes:
    """Some bytes cut off, flipped, doubled or replaced."""
    body = bytearray(data)
    match draw.randrange(4):
        case 0:
            del body[draw.randrange(len(body) + 1) :]
        case 1:
            for _ in range(draw.randrange(1, 9)):
                if body:
                    body[draw.randrange(len(body))] ^= 1 << draw.randrange(8)
        case 2:
            at = draw.randrange(len(body) + 1)
            body[at:at] = body[: draw.randrange(len(body) + 1)]
        case _:
            at = draw.randrange(len(body) + 1)
            body[at : at + draw.randrange(64)] = draw.randbytes(draw.randrange(64))
    return bytes(body)


def _changed(value: Any, draw: random.Random) -> Any:
    """The value with one place of it changed, removed, doubled, renamed or buried."""
    place = _place(value, draw)
    if place is None:
        return _odd(draw)
    inside, key = place
    match draw.randrange(8):
        case 0:
            del inside[key]
        case 1 if isinstance(inside, list):
            inside.insert(key, copy.deepcopy(inside[key]))
        case 1:
            inside[str(key) + draw.choice(("x", " ", "\0", "\ud800"))] = inside.pop(key)
        case 2:
            inside[key] = [inside[key]]
        case _:
            inside[key] = _odd(draw)
    return value


def _place(value: Any, draw: random.Random) -> tuple[Any, Any] | None:
    """An object or array in it, with one of its keys."""
    places: list[tuple[Any, Any]] = []
    pending = [value]
    while pending:
        inside = pending.pop()
        if isinstance(inside, dict):
            places += [(inside, key) for key in inside]
            pending += inside.values()
        elif isinstance(inside, list):
            places += [(inside, index) for index in range(len(inside))]
            pending += inside
    return draw.choice(places) if places else None


def _odd(draw: random.Random) -> Any:
    if draw.random() < 0.15:
        return _HOLE
    return copy.deepcopy(draw.choice(ODD))
