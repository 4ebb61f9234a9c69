"""How messages name places, values and near misses. The one voice of the model's errors.

It knows nothing of documents or settings. All it returns is short, printable and on one line,
whatever the user's text holds.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Any

_PLAIN_KEY = re.compile(r"[A-Za-z_$][A-Za-z0-9_$-]{0,63}")
_SHOWN = 60
_LONGEST_NAME = 128
_MOST_CANDIDATES = 100_000


def kind(value: Any) -> str:
    """What a JSON value is, in plain words with their article."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str():
            return "a string"
        case int() | float():
            return "a number"
        case list():
            return "an array"
        case _:
            return "an object"


def quoted(text: str) -> str:
    """The text in double quotes: control characters and surrogates escaped, its end cut off."""
    body = text[:_SHOWN] + "…" if len(text) > _SHOWN else text
    safe = "".join(c if c.isprintable() and c not in '"\\' else _escape(c) for c in body)
    return f'"{safe}"'


def _escape(char: str) -> str:
    return "\\" + char if char in '"\\' else f"\\u{ord(char):04x}"


def step(key: str) -> str:
    """How a place goes on into an object: `.key`, or `["od d"]` for a key that needs quotes."""
    return f".{key}" if _PLAIN_KEY.fullmatch(key) else f"[{quoted(key)}]"


def one_of(choices: Collection[str]) -> str:
    """`"a", "b" or "c"`."""
    *others, last = (f'"{choice}"' for choice in choices)
    return f"{', '.join(others)} or {last}" if others else last


def whose(job_ids: Sequence[str]) -> str:
    """`` (job "train" and 12 more)``: of which jobs something is said."""
    if not job_ids:
        return ""
    more = f" and {len(job_ids) - 1:,} more" if len(job_ids) > 1 else ""
    return f' (job "{job_ids[0]}"{more})'


def did_you_mean(name: str, known: Collection[str]) -> str:
    """`; did you mean "x"?` with the nearest known name, or nothing when none is near."""
    if len(name) > _LONGEST_NAME or len(known) > _MOST_CANDIDATES:
        return ""
    nearest = _nearest(name, known)
    return "" if nearest is None else f'; did you mean "{nearest}"?'


def _nearest(name: str, known: Collection[str]) -> str | None:
    # difflib compares at some 10 µs a name: of many, only those of about this length that begin
    # or end alike are worth it.
    if len(known) > 1000:
        head, tail, size = name[:2], name[-2:], len(name)
        known = [
            other
            for other in known
            if abs(len(other) - size) <= 2 and (other.startswith(head) or other.endswith(tail))
        ][:1000]
    import difflib

    folded = {other.lower(): other for other in known}
    found = difflib.get_close_matches(name.lower(), folded, n=1, cutoff=0.6)
    return folded[found[0]] if found else None
