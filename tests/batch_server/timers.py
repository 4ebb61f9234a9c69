"""Functions that are called later, all of them by one thread and under one lock."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
import traceback
from collections.abc import Callable

Call = Callable[[], None]


class Timers:
    """``lock`` is held while a function runs; whoever shares the functions' data takes it too.

    ``errors``: tracebacks of functions that raised; a test that ends with one has found a mistake
    of the server.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.errors: list[str] = []
        self._changed = threading.Condition(self.lock)
        self._due: list[tuple[float, int, Call]] = []
        self._numbers = itertools.count()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="batch-timers", daemon=True)
        self._thread.start()

    def after(self, seconds: float, call: Call) -> None:
        """Call it so many real seconds from now."""
        with self._changed:
            heapq.heappush(self._due, (time.monotonic() + seconds, next(self._numbers), call))
            self._changed.notify()

    def close(self) -> None:
        """Nothing is called any more."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        with self._changed:
            while not self._closed:
                if not self._due:
                    self._changed.wait()
                    continue
                left = self._due[0][0] - time.monotonic()
                if left > 0:
                    self._changed.wait(left)
                    continue
                try:
                    heapq.heappop(self._due)[2]()
                except Exception:
                    self.errors.append(traceback.format_exc())
