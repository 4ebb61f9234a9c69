"""What is to go wrong with the next requests: throttling, errors, connections that break."""

from __future__ import annotations

import threading
import time
from collections import defaultdict, deque
from collections.abc import Mapping
from enum import Enum, auto


class Fault(Enum):
    THROTTLED = auto()
    """429, and nothing happens."""
    BROKEN = auto()
    """500, and nothing happens."""
    LOST_REQUEST = auto()
    """The connection is closed, and nothing happens."""
    LOST_ANSWER = auto()
    """It happens, and the connection is closed without an answer."""


class Faults:
    """``rates``: calls of an operation a second, above which they are throttled."""

    def __init__(self, rates: Mapping[str, float]) -> None:
        self._lock = threading.Lock()
        self._next: dict[str, deque[Fault]] = defaultdict(deque)
        self._rates = dict(rates)
        self._buckets: dict[str, tuple[float, float]] = {}

    def add(self, operation: str, fault: Fault, times: int = 1) -> None:
        """The operation's next requests meet it, after those that were added before."""
        with self._lock:
            self._next[operation].extend([fault] * times)

    def limit(self, operation: str, per_second: float) -> None:
        """From now on it is throttled above this rate."""
        with self._lock:
            self._rates[operation] = per_second
            self._buckets.pop(operation, None)

    def take(self, operation: str) -> Fault | None:
        """What this request meets."""
        with self._lock:
            if waiting := self._next[operation]:
                return waiting.popleft()
            return Fault.THROTTLED if self._too_often(operation) else None

    def _too_often(self, operation: str) -> bool:
        if (rate := self._rates.get(operation)) is None:
            return False
        now = time.monotonic()
        tokens, before = self._buckets.get(operation, (max(rate, 1.0), now))
        tokens = min(max(rate, 1.0), tokens + (now - before) * rate)
        enough = tokens >= 1
        self._buckets[operation] = (tokens - 1 if enough else tokens, now)
        return not enough
