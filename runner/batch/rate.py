"""How often a service may be called: so many calls a second, fewer after it said that it is too
many. Pure: the caller says what time it is, and does the waiting.
"""

from __future__ import annotations

SLOWEST = 0.5
"""Calls a second that are always made, however often they are throttled."""

SLOWED = 0.5
"""What is left of the rate after a call that was throttled."""

RECOVERED = 0.05
"""Part of the full rate that each call which went well gives back."""


class CallRate:
    """``per_second`` calls in the long run, ``burst`` of them at once. Not for two threads."""

    def __init__(self, per_second: float, burst: float = 1.0) -> None:
        self._full = self._rate = per_second
        self._burst = burst
        self._next = 0.0
        """When the next call would be due if all were evenly spaced (the GCRA of ATM)."""

    @property
    def per_second(self) -> float:
        """The rate as it is now."""
        return self._rate

    def take(self, now: float) -> float:
        """Reserve one call: seconds from ``now`` until it may be made."""
        spacing = 1.0 / self._rate
        self._next = max(self._next, now - (self._burst - 1) * spacing)
        wait = max(0.0, self._next - now)
        self._next += spacing
        return wait

    def throttled(self) -> None:
        """A call was refused for being one too many."""
        self._rate = max(min(SLOWEST, self._full), self._rate * SLOWED)

    def went_well(self) -> None:
        """A call was answered."""
        self._rate = min(self._full, self._rate + self._full * RECOVERED)
