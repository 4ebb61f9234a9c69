"""Whether the disk of a queue's state is short of space, and what is said of it."""

from __future__ import annotations

import os
from pathlib import Path


class Space:
    """The reserve of ``reserve`` bytes that is kept on the file system of ``folder``; 0: none."""

    def __init__(self, folder: Path, reserve: int) -> None:
        self._folder = folder
        self._reserve = reserve

    def shortage(self) -> str | None:
        """What is short, in words; None if nothing is. Raises OSError if the disk doesn't tell."""
        if not self._reserve:
            return None
        stat = os.statvfs(self._folder)
        free = stat.f_bavail * stat.f_frsize
        # A reserve that the disk can't ever have would stop the queue for good.
        reserve = min(self._reserve, stat.f_blocks * stat.f_frsize // 2)
        if free >= reserve:
            return None
        return f"disk full: {free >> 10} KiB free, {reserve >> 10} KiB are kept in reserve"

    def is_short(self) -> bool:
        """The same in one word; not if the disk doesn't tell."""
        try:
            return self.shortage() is not None
        except OSError:
            return False
