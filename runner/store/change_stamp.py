"""Whether a database has changed since it was read, told by its files without opening them.

SQLite changes a database in WAL mode by writing to one of two files, and each write changes that
file's times: ctime, which nothing can set back, of the database. Of the log it is mtime, for root's
SQLite gives a log to the database's owner each time it opens one, which changes its ctime alone: a
log that a look has left behind would never settle. What is shown of 500 kept queues costs 1,000
calls of stat(2) so, and not 500 databases opened.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import NamedTuple

SETTLED = 1.0
"""Seconds after which two changes of a file can't have the same time any more: the kernel's clock
for files goes in steps of up to 10 ms."""

_File = tuple[int, int, int]
_ABSENT: _File = (0, 0, 0)


class Stamp(NamedTuple):
    """A database's two files: inode, size and time of change in nanoseconds of each."""

    database: _File
    log: _File

    @property
    def settled(self) -> bool:
        """Whether what is read from now on can be kept for as long as the stamp is the same."""
        newest = max(self.database[2], self.log[2])
        return time.time() - newest / 1e9 > SETTLED


def stamp_of(database: str | Path) -> Stamp:
    """The stamp as it is now. Take it before the database is read."""
    return Stamp(_file(f"{database}", log=False), _file(f"{database}-wal", log=True))


def _file(path: str, *, log: bool) -> _File:
    try:
        found = os.stat(path)
    except OSError:
        return _ABSENT
    # A log without content is as good as none: who only looks may leave one.
    changed = found.st_mtime_ns if log else found.st_ctime_ns
    return (found.st_ino, found.st_size, changed) if found.st_size else _ABSENT
