"""Times as text: RFC 3339 in UTC, written and read in this one place.

Every time of ours that a person or a program reads has this form. Owns no clock: seconds since the
epoch are given, and given back.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import overload


@overload
def rfc3339(wall: float) -> str: ...
@overload
def rfc3339(wall: None) -> None: ...
def rfc3339(wall: float | None) -> str | None:
    """Seconds since the epoch as ``2026-01-22T14:05:30.125Z``; whole seconds without a point.

    None stays None. Raises ValueError or OverflowError for a time that has no year.
    """
    if wall is None:
        return None
    text = datetime.fromtimestamp(round(wall, 3), UTC).isoformat(timespec="milliseconds")
    return text.removesuffix("+00:00").removesuffix(".000") + "Z"


def rfc3339_seconds(wall: float) -> str:
    """The same, without what is left of the last second."""
    return datetime.fromtimestamp(int(wall), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_rfc3339(text: str) -> float:
    """Seconds since the epoch. Raises ValueError, whose words go behind a name:
    ``is not a time``, ``is a time without a zone``, ``is out of range``.
    """
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("is not a time") from None
    if found.tzinfo is None:
        raise ValueError("is a time without a zone")
    try:
        return found.timestamp()
    except OverflowError:
        raise ValueError("is out of range") from None
