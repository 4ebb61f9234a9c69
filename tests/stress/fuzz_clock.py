"""The clock of the launch fuzz: all laptops share it, and hours pass at once.

It is a file of seconds that have passed besides the real ones. Each process adds to a number of
its own, so that one that was stopped in the middle of an addition takes nothing back.
"""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path

SLOTS = 64
"""Processes of a round, at most; slot 0 is the test's."""

_NUMBER = struct.Struct("d")
_ALL = struct.Struct(f"{SLOTS}d")


class Clock:
    """Opens the file, which is made if need be. Seconds all."""

    def __init__(self, path: str | Path) -> None:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(file, 2 * _ALL.size)
            self._map = mmap.mmap(file, 2 * _ALL.size)
        finally:
            os.close(file)

    def passed(self) -> float:
        """Since the round's begin, besides what really has."""
        return sum(_ALL.unpack_from(self._map))

    def sleep(self, slot: int, seconds: float) -> None:
        """Somebody sleeps, and time passes for all."""
        self._add(_NUMBER.size * slot, seconds)

    def suspend(self, slot: int, seconds: float) -> None:
        """A laptop is asleep: its monotonic clock stands still meanwhile."""
        self._add(_ALL.size + _NUMBER.size * slot, seconds)
        self.sleep(0, seconds)

    def suspended(self, slot: int) -> float:
        """How long a process' laptop was asleep."""
        found: float = _NUMBER.unpack_from(self._map, _ALL.size + _NUMBER.size * slot)[0]
        return found

    def _add(self, at: int, seconds: float) -> None:
        (before,) = _NUMBER.unpack_from(self._map, at)
        _NUMBER.pack_into(self._map, at, before + seconds)

    def restart(self) -> None:
        """A new round: no process of the last one is left."""
        self._map[:] = bytes(2 * _ALL.size)

    def close(self) -> None:
        self._map.close()
