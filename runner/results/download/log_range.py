"""Which part of a log is meant: its last lines or bytes, or what was written since a time.

Logs bear no times of their own: programs write to the files themselves. So a time is looked for at
the beginning of lines, as most programs' loggers write it; a log without any is taken as a whole.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

_BLOCK = 256 * 1024
_FAR = 64 * 1024 * 1024
"""Bytes before the end in which lines are counted: who wants more wants the file."""

_TIME = re.compile(
    rb"[\[(]?(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:[.,](\d{1,9}))?\s?(Z|[+-]\d\d:?\d\d)?"
)


@dataclass(frozen=True, slots=True)
class Range:
    """The part that is meant, from its beginning to the end; None is no limit.

    ``lines`` and ``count`` (bytes) are counted from the end; ``since`` is a wall time in seconds.
    What begins last stands.
    """

    lines: int | None = None
    count: int | None = None
    since: float | None = None

    def begin(self, fd: int, written: float | None = None) -> int:
        """The offset at which it begins. ``written``: when the log was last written to, in seconds;
        None is not known. Raises OSError."""
        size = os.fstat(fd).st_size
        begin = 0
        if self.count is not None:
            begin = max(begin, size - self.count)
        if self.lines is not None:
            begin = max(begin, _of_last_lines(fd, size, self.lines))
        if self.since is not None:
            begin = max(begin, _since(fd, size, self.since, written))
        return min(begin, size)


def _blocks(fd: int, size: int, far: int) -> Iterator[tuple[int, bytes]]:
    """Pieces from the end to the beginning, each with its offset."""
    end, least = size, max(0, size - far)
    while end > least:
        begin = max(least, end - _BLOCK)
        yield begin, os.pread(fd, end - begin, begin)
        end = begin


def _of_last_lines(fd: int, size: int, lines: int) -> int:
    left, begin = lines, size
    for begin, data in _blocks(fd, size, _FAR):
        # The line feed at the very end closes the last line, it begins no further one.
        end = len(data) - (begin + len(data) == size and data.endswith(b"\n"))
        found = data.count(b"\n", 0, end)
        if found < left:
            left -= found
            continue
        at = end
        for _ in range(left):
            at = data.rfind(b"\n", 0, at)
        return begin + at + 1
    return begin


def _since(fd: int, size: int, since: float, written: float | None) -> int:
    """Where the first line begins that bears such a time, and so all that follows it."""
    if written is not None and written < since:
        return size
    begin: int | None = None
    for offset, data in _blocks(fd, size, size):
        times = list(_times(data, whole=offset == 0))
        if not times and begin is None:
            # A quarter of a megabyte without one: this program writes none.
            return 0
        for at, wall in reversed(times):
            if wall < since:
                return size if begin is None else begin
            begin = offset + at
    return 0


def _times(data: bytes, *, whole: bool) -> Iterator[tuple[int, float]]:
    """The lines that begin with a time: their offset, and it. The first may be cut."""
    at = 0 if whole else data.find(b"\n") + 1
    while at < len(data):
        if (match := _TIME.match(data, at)) and (wall := _wall(match)) is not None:
            yield at, wall
        at = data.find(b"\n", at) + 1 or len(data)


def _wall(match: re.Match[bytes]) -> float | None:
    day, clock, fraction, zone = (part.decode() if part else "" for part in match.groups())
    try:
        # Without a zone it is this machine's.
        return datetime.fromisoformat(f"{day}T{clock}.{fraction[:6] or '0'}{zone}").timestamp()
    except (ValueError, OverflowError):
        return None
