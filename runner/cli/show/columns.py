"""Tables for people: aligned columns, made to fit the width of a terminal.

Owns what gives way where there isn't room for all: first ids are shortened in their middle, then
texts are wrapped or cut, at last whole columns are left out. Where no width is given nothing is.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from runner.cli.show.text import clean

GAP = 2
"""Spaces between two columns."""

_BELOW = 4
"""Spaces before a text that has a line of its own below its row."""


class Cut(Enum):
    """How the cells of a column give way."""

    NEVER = "never"
    MIDDLE = "middle"
    WRAP = "wrap"


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table.

    Cells that may be cut give way in two rounds, each from left to right: to ``soft`` characters,
    then to ``least``. ``leave_out``: which column is left out first when that isn't enough, from 1;
    0 is never.
    """

    head: str
    cut: Cut = Cut.NEVER
    soft: int = 0
    least: int = 0
    leave_out: int = 0


@dataclass(frozen=True, slots=True)
class Fit:
    """Which columns are shown, by number, and how wide; ``below`` has lines of its own."""

    widths: dict[int, int]
    below: int | None = None


def table(columns: Sequence[Column], rows: Iterable[Sequence[str]], width: int | None) -> list[str]:
    """The lines of the rows under their heads, none longer than ``width``."""
    cells = [[clean(cell) for cell in row] for row in rows]
    found = fit(columns, cells, width)
    lines = [line(columns, found, [column.head for column in columns])]
    for row in cells:
        lines += _wrapped(columns, found, row, width)
    return lines


def fit(
    columns: Sequence[Column],
    rows: Sequence[Sequence[str]],
    width: int | None,
    *,
    one_line: bool = False,
) -> Fit:
    """How the columns share the width. ``one_line``: a row may have no further lines."""
    heads = [column.head for column in columns]
    natural = {
        n: max(map(cells_of, (row[n] for row in (heads, *rows)))) for n in range(len(columns))
    }
    if width is None or _total(natural) <= width:
        return Fit(natural)
    shown, below = dict(natural), None
    for n in _giving_way(columns, one_line=one_line):
        if _total({k: _least(columns[k], natural[k]) for k in shown}) <= width:
            break
        del shown[n]
        below = n if not one_line and columns[n].cut is Cut.WRAP else below
    for to in ("soft", "least"):
        for n in shown:
            if (over := _total(shown) - width) <= 0:
                break
            if columns[n].cut is not Cut.NEVER:
                shown[n] = max(min(shown[n], getattr(columns[n], to)), shown[n] - over)
    return Fit(shown, below)


def _giving_way(columns: Sequence[Column], *, one_line: bool) -> list[int]:
    """The columns in the order in which they are left out: what only moves below goes first."""
    found = [n for n, column in enumerate(columns) if column.leave_out]
    return sorted(
        found, key=lambda n: (one_line or columns[n].cut is not Cut.WRAP, columns[n].leave_out)
    )


def _least(column: Column, natural: int) -> int:
    return natural if column.cut is Cut.NEVER else min(natural, column.least)


def _total(widths: dict[int, int]) -> int:
    return sum(widths.values()) + GAP * (len(widths) - 1)


def line(columns: Sequence[Column], found: Fit, row: Sequence[str]) -> str:
    """One row in one line."""
    return "".join(part for _, part in parts(columns, found, row)).rstrip()


def parts(columns: Sequence[Column], found: Fit, row: Sequence[str]) -> list[tuple[int, str]]:
    """One row in one line: the number of each column that is shown, and its cell with its space."""
    return [
        (n, pad(shortened(row[n], width, columns[n].cut), width) + " " * GAP)
        for n, width in found.widths.items()
    ]


def _wrapped(
    columns: Sequence[Column], found: Fit, row: Sequence[str], width: int | None
) -> list[str]:
    texts: list[list[str]] = []
    for n, room in found.widths.items():
        cut = columns[n].cut
        one = [shortened(row[n], room, cut)] if cut is not Cut.WRAP else wrap(row[n], room)
        texts.append([pad(text, room) for text in one])
    lines = []
    for at in range(max(map(len, texts))):
        pieces = [
            text[at] if at < len(text) else " " * room
            for text, room in zip(texts, found.widths.values(), strict=True)
        ]
        lines.append((" " * GAP).join(pieces).rstrip())
    if found.below is not None and width is not None and row[found.below]:
        lines += [" " * _BELOW + text for text in wrap(row[found.below], width - _BELOW)]
    return lines


# -- texts of a width --------------------------------------------------------------------------


def cells_of(text: str) -> int:
    """How many columns of a terminal a text takes: wide characters two, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(map(_cells, text))


def _cells(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def pad(text: str, width: int) -> str:
    """The text, filled up with spaces."""
    return text + " " * (width - cells_of(text))


def shortened(text: str, width: int, cut: Cut = Cut.WRAP) -> str:
    """The text in so many columns: an ellipsis stands for its middle, or for its end."""
    if cells_of(text) <= width:
        return text
    tail = (width - 1) // 2 if cut is Cut.MIDDLE else 0
    end = _fitting(text[::-1], tail)[::-1] if tail else ""
    return _fitting(text, width - 1 - cells_of(end)) + "…" + end


def _fitting(text: str, width: int) -> str:
    """As much of the beginning as fits."""
    if text.isascii():
        return text[: max(0, width)]
    for at, char in enumerate(text):
        width -= _cells(char)
        if width < 0:
            return text[:at]
    return text


def wrap(text: str, width: int) -> list[str]:
    """The text in lines of so many columns, broken at spaces where it has some."""
    width = max(1, width)
    lines = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}" if lines[-1] else word
        if cells_of(longer) <= width:
            lines[-1] = longer
            continue
        if lines[-1]:
            lines.append("")
        while cells_of(word) > width:
            piece = _fitting(word, width) or word[0]
            lines[-1] = piece
            word = word[len(piece) :]
            lines.append("")
        lines[-1] = word
    return lines[:-1] if len(lines) > 1 and not lines[-1] else lines
