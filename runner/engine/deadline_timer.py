"""The one timer of a session: it is set for the earliest deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from runner.core.scheduler import Scheduler
from runner.engine.clock import now

CHECK_BLOCK = 1.0
"""Seconds between two looks at whether what blocks starts has passed."""


class DeadlineTimer:
    """``call_at`` has a function called at a monotonic time; ``on_time`` is told whether a deadline
    is due, or only something to be looked at."""

    def __init__(
        self,
        scheduler: Scheduler,
        call_at: Callable[[float, Callable[[], None]], asyncio.TimerHandle],
        on_time: Callable[[bool], None],
    ) -> None:
        self._scheduler = scheduler
        self._call_at = call_at
        self._on_time = on_time
        self._timer: asyncio.TimerHandle | None = None

    def arm(self) -> None:
        """Set it, unless it is set for as early a time."""
        due = self._scheduler.next_deadline()
        if self._scheduler.blocked:
            due = min(due or float("inf"), now().mono + CHECK_BLOCK)
        if due is None or due == float("inf"):
            return
        if self._timer is not None:
            if self._timer.when() <= due:
                return
            self._timer.cancel()
        self._timer = self._call_at(due, self._fire)

    def stop(self) -> None:
        """Set it no more, until the next ``arm``."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fire(self) -> None:
        self._timer = None
        due = self._scheduler.next_deadline()
        self._on_time(due is not None and due <= now().mono)
