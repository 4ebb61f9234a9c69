"""What stands at the other end of a stream: a terminal of some size, or something else."""

from __future__ import annotations

import os
from typing import NamedTuple, TextIO

_USUAL = (80, 24)


class Screen(NamedTuple):
    """The size of a terminal in characters."""

    columns: int
    lines: int


def screen_of(stream: TextIO) -> Screen | None:
    """The size of the terminal that the stream writes to; None if it is none.

    ``COLUMNS`` and ``LINES`` win over what the terminal says; one that says nothing has 80 × 24.
    """
    try:
        if not stream.isatty():
            return None
        columns, lines = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError):
        return None
    return Screen(
        _given("COLUMNS") or columns or _USUAL[0],
        _given("LINES") or lines or _USUAL[1],
    )


def can_redraw(stream: TextIO) -> bool:
    """Whether what was written can be replaced: a terminal that knows control sequences."""
    return stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def _given(variable: str) -> int:
    text = os.environ.get(variable, "")
    return int(text) if text.isdecimal() else 0
