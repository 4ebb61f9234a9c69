"""How a document says in short what ``expansion`` writes out: its keys, and the marks in its text.

All of that room that a document costs which has nothing in short, as most: one module to import.
"""

from __future__ import annotations

from typing import Any

Member = tuple[str, int | None, Any]
"""A key of a document, of a job its index, and the value."""

DEFAULTS, PARAMS = "defaults", "params"
MATRIX_KEYS = ("matrix", "matrix_include", "matrix_exclude", "matrix_id")

OPEN = "${{"
"""What an expression in a string begins with."""

ESCAPED = "$" + OPEN
"""What stands for the characters themselves."""

YAML_SUFFIXES = (".yaml", ".yml")

_MARKS = (OPEN, f'"{PARAMS}"', f'"{DEFAULTS}"', '"matrix')
_ESCAPED_ASCII = r"\\u00[2-7]"


def is_short(text: str) -> bool:
    """Whether the text of a document may hold anything that is to be written out."""
    if any(mark in text for mark in _MARKS):
        return True
    if "\\u00" not in text:
        return False
    import re

    # Nobody writes the letters of a key so; where it is done it means the same.
    return re.search(_ESCAPED_ASCII, text) is not None


def escaped(text: str) -> str:
    """A text that reads back as this one, whatever it holds."""
    return text.replace(OPEN, ESCAPED)


def unescaped(value: Any) -> Any:
    """A JSON value of a document that was written out, as it is meant."""
    match value:
        case str():
            return value.replace(ESCAPED, OPEN)
        case list():
            return [unescaped(item) for item in value]
        case dict():
            return {unescaped(key): unescaped(item) for key, item in value.items()}
        case _:
            return value
