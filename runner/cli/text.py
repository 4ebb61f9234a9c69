"""Plain text for people: no control characters from outside, numbers with their nouns."""

from __future__ import annotations

from collections.abc import Mapping


def counted(number: int, noun: str) -> str:
    """``1 job``, ``2 jobs``, ``1,000 jobs``."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def clean(text: str) -> str:
    """The text with control characters spelled out: a job's words must not drive a terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def told(counts: Mapping[str, int]) -> str:
    """How many jobs stand where: ``3 completed, 1 failed``."""
    return ", ".join(f"{n} {name}" for name, n in counts.items() if n)


def headline(queue: Mapping[str, object]) -> str:
    """A queue in one line: ``nightly running, paused``."""
    state = f"{queue['queue_id']} {queue['status']}" + (", paused" if queue.get("paused") else "")
    why = queue.get("reason") or queue.get("blocked")
    return f"{state}: {clean(str(why))}" if why else state
