"""Whether a service that doesn't answer is asked at all: a circuit breaker. Pure: the caller says
what time it is, in monotonic seconds, and how its calls went.

The pattern and the names of its states: Michael Nygard, "Release It!"; Microsoft's Cloud Design
Patterns, "Circuit Breaker".
"""

from __future__ import annotations

from enum import Enum

FAILURES = 3
"""Calls that fail in a row until no more are made."""

LASTING = 5.0
"""Seconds that they must go back: twenty calls under way at once fail at once."""

COOL_DOWN = 15.0
"""Seconds until one call is made again to see whether it is answered."""

LONGEST_COOL_DOWN = 120.0
"""The same after many of these have failed: it doubles with each."""


class Circuit(Enum):
    """CLOSED: calls are made. OPEN: none is. HALF_OPEN: one is, to see."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class CircuitBreaker:
    """``failures`` in a row, the first of them ``lasting`` seconds ago or more, open it.

    Only calls that got no answer are failures: a refusal is an answer. Not for two threads.
    """

    def __init__(
        self,
        failures: int = FAILURES,
        lasting: float = LASTING,
        cool_down: float = COOL_DOWN,
        longest: float = LONGEST_COOL_DOWN,
    ) -> None:
        self._most = failures
        self._lasting = lasting
        self._cool_down = cool_down
        self._longest = longest
        self._failures = 0
        self._since = 0.0
        """When the first of them was."""
        self._until: float | None = None
        """When a call may be made again; None: it is closed."""
        self._wait = cool_down
        self._trying = False
        """Whether a call is under way to see whether it is answered."""
        self.why: str | None = None
        """What the last failure was; None after a success."""

    def circuit(self, now: float) -> Circuit:
        """Where it stands."""
        if self._until is None:
            return Circuit.CLOSED
        return Circuit.OPEN if now < self._until else Circuit.HALF_OPEN

    def wait(self, now: float) -> float:
        """Seconds until a call may be made; 0: now."""
        return 0.0 if self._until is None else max(0.0, self._until - now)

    def take(self, now: float) -> bool:
        """Whether a call is to be made now. Of a half-open circuit the first caller alone hears
        yes; another one, should nothing be told of that call, after one more cool-down."""
        match self.circuit(now):
            case Circuit.CLOSED:
                return True
            case Circuit.OPEN:
                return False
            case Circuit.HALF_OPEN:
                self._until = now + self._wait
                self._trying = True
                return True

    def succeeded(self) -> None:
        """A call was answered, also by a refusal: it closes."""
        self._failures = 0
        self._until = None
        self._trying = False
        self._wait = self._cool_down
        self.why = None

    def failed(self, now: float, why: str) -> bool:
        """A call got no answer; whether that has just opened a closed circuit."""
        self.why = why
        if self._until is not None:
            if self._trying or now >= self._until:  # else it began before it was opened
                self._trying = False
                self._wait = min(self._longest, self._wait * 2)
                self._until = now + self._wait
            return False
        if self._failures == 0:
            self._since = now
        self._failures += 1
        if self._failures < self._most or now - self._since < self._lasting:
            return False
        self._until = now + self._wait
        return True
