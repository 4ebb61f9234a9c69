"""How long an upload has been without progress. Must not know what is uploaded, nor where to.

Progress is what has never been sent before, or was stored for the first time: what is sent again
and again is none, however busy it looks.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Progress:
    """One upload's, over all its tries. Told by any thread; ``clock`` is in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._last = clock()
        self._furthest: dict[tuple[str, int], int] = {}
        self._working = 0
        self._working_since = 0.0

    def made(self) -> None:
        """Something has been done that no try will do again."""
        with self._lock:
            self._last = self._clock()

    def sent(self, key: str, start: int, count: int) -> None:
        """``count`` bytes of the piece of ``key`` that begins at ``start`` have gone out."""
        with self._lock:
            if count > self._furthest.get((key, start), 0):
                self._furthest[key, start] = count
                self._last = self._clock()

    @contextmanager
    def working(self) -> Iterator[None]:
        """This machine reads, compares or copies: that time isn't counted."""
        with self._lock:
            if not self._working:
                self._working_since = self._clock()
            self._working += 1
        try:
            yield
        finally:
            with self._lock:
                self._working -= 1
                if not self._working:
                    self._last += self._clock() - max(self._working_since, self._last)

    def seconds_without(self) -> float:
        """Seconds since the last progress, without those of work on this machine."""
        with self._lock:
            now = self._clock()
            if self._working:
                now = max(self._working_since, self._last)
            return now - self._last
