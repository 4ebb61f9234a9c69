"""Text from outside, made fit for a terminal. Imports nothing: every command starts with it."""

from __future__ import annotations


def clean(text: str) -> str:
    """The text with control characters spelled out: a job's words must not drive a terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
