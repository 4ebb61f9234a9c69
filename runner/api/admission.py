"""Who may submit next, where an Executor has limits: first come, first served."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from runner.api.job_errors import JobLimitError
from runner.api.limits import Demand, ExecutorLimits, LimitUsage


class Admission:
    """Room for jobs, in any thread. ``check`` raises what ends a wait: the executor has ended."""

    def __init__(self, limits: ExecutorLimits, check: Callable[[], None]) -> None:
        self._waits = limits.waits
        self._check = check
        self._usage = LimitUsage(limits)
        self._changed = threading.Condition()
        self._line: deque[object] = deque()

    def enter(self, demand: Demand, *, at_once: bool = False) -> None:
        """Have the room counted, once it is there. ``at_once``: whether it is there or not.

        Raises JobLimitError where there is none and nothing is waited for, and what the check does.
        """
        with self._changed:
            if not at_once:
                self._wait(demand)
            self._usage.add(demand)

    def _wait(self, demand: Demand) -> None:
        if not self._waits:
            if (full := self._usage.why_full(demand)) is not None:
                raise JobLimitError(full)
            return
        place = object()
        self._line.append(place)
        try:
            # A large one at the head holds the others up: else it would never get its room.
            while self._line[0] is not place or self._usage.why_full(demand) is not None:
                self._changed.wait()
                self._check()
        finally:
            self._line.remove(place)
            self._changed.notify_all()

    def leave(self, demand: Demand) -> None:
        """A job has ended: there is more room."""
        with self._changed:
            self._usage.remove(demand)
            if self._line:
                self._changed.notify_all()

    def wake(self) -> None:
        """The executor ends, or is broken: nothing is waited for any more."""
        with self._changed:
            self._changed.notify_all()
