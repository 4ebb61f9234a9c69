"""Plain text for people: aligned columns, nothing cut, no control characters from outside."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence


def columns(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """The rows under their heads, two spaces between columns."""
    table = [list(head), *([clean(cell) for cell in row] for row in rows)]
    widths = [max(len(row[n]) for row in table) for n in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    )


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
