"""Tables of the fleet, as the guide of the BEC CLI prints them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from runner.model.printable import clean

WIDE = 200
"""Columns, where the output is no terminal."""


def print_table(
    heads: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    title: str | None = None,
    right: Sequence[str] = (),
) -> None:
    """A table with a frame; ``right``: columns of numbers."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_style="")
    for head in heads:
        table.add_column(head, justify="right" if head in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(clean(cell)) for cell in row))
    width = None if sys.stdout.isatty() else WIDE
    Console(width=width, highlight=False, emoji=False, markup=False).print(table)


def print_json(value: Any) -> None:
    """For programs."""
    print(json.dumps(value, ensure_ascii=False, indent=2))


def short(text: str, length: int) -> str:
    """Cut to so many characters."""
    return text if len(text) <= length else f"{text[: length - 3]}..."


def confirmed(question: str, *, yes: bool) -> bool:
    """Whether a person agrees. Raises UsageError where nobody can be asked."""
    if yes:
        return True
    if not sys.stdin.isatty():
        from runner.errors import UsageError

        raise UsageError(f"it needs --yes, for nobody can be asked here: {question}")
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
