"""Which line of a queue's story was durable last, beside the database and not in it.

A database whose log was lost or damaged, or that was restored from a copy, opens without a word:
SQLite takes the log for shorter. That number tells. It is written after each commit and never
synced: after a power cut it may be older than the database, which says nothing.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_SIZE = 64


class LastEvent:
    """The number at ``path``. What can't be read or written only leaves a loss unnoticed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1

    def read(self, run_id: str) -> int:
        """The newest line's number; 0 if none of this run is known."""
        with suppress(OSError, ValueError):
            words = self._path.read_bytes()[:_SIZE].decode("ascii").split()
            if len(words) == 2 and words[0] == run_id:
                return int(words[1])
        return 0

    def write(self, run_id: str, number: int) -> None:
        """Remember it; in one write to one place, for this is done at every step."""
        with suppress(OSError):
            if self._fd < 0:
                flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
                self._fd = os.open(self._path, flags, 0o600)
            os.pwrite(self._fd, f"{run_id} {number}".ljust(_SIZE - 1).encode() + b"\n", 0)

    def close(self) -> None:
        """Give the descriptor back. Can be repeated."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
