"""Jobs in flight, looked at: one thread a region asks AWS Batch what has become of them.

Owns when each job is looked at next, and how often Batch is asked at all. It knows neither attempts
nor queues: whoever watches a job is told of each change.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Any

from runner.aws.batch import DESCRIBED, THROTTLED
from runner.aws.errors import AwsError, ErrorKind
from runner.batch.rate import CallRate

EVERY = 2.0
"""Seconds between two looks at a job that changes now and then."""

SELDOM = 5.0
"""The same for one that has been as it is for minutes: with it, an end is known within 10 s."""

LASTS = 20.0
"""A job that has been as it is for a time is looked at again after the 20th part of it."""

PER_SECOND = 2.0
"""Calls of DescribeJobs a second. AWS publishes no limit; this is far below what people met."""

UNDER_EVENTS = 30.0
"""Seconds between two looks at a job whose changes are told by events: one may be lost."""

AFTER_RING = 10.0
"""Seconds for which a job is looked at as often as without events, once one has come: what
DescribeJobs answers may be older than the event."""

TOLD_AFTER = 5
"""Calls in a row that fail without a word."""

FIRST_RETRY = 1.0
LONGEST_RETRY = 20.0

_UNDER_WAY = float("inf")
"""In place of when a job is due: it is being looked at."""

Told = Callable[[str, Mapping[str, Any] | None], None]
"""Takes a job's id and its JobDetail; None where Batch doesn't know it: not yet, or not any more.
Called in the poller's thread."""


@dataclass(slots=True)
class _Watched:
    told: Told
    due: float
    since: float
    seen: tuple[Any, ...] | None = None
    rung: float = float("-inf")


@dataclass(slots=True)
class PollerCounts:
    """What the poller has done, for tests and benchmarks."""

    calls: int = 0
    throttled: int = 0
    failed: int = 0


class Poller:
    """``describe``: see Batch.describe. ``say`` takes why it can't look at all, once. Its methods
    may be called in any thread."""

    def __init__(
        self,
        describe: Callable[[Sequence[str]], Mapping[str, Mapping[str, Any]]],
        say: Callable[[str], None] = lambda text: None,
        *,
        every: float = EVERY,
        per_second: float = PER_SECOND,
    ) -> None:
        self.counts = PollerCounts()
        self.error: str | None = None
        self._describe = describe
        self._say = say
        self._said: str | None = None
        self._every = every
        self._rate = CallRate(per_second)
        self._jobs: dict[str, _Watched] = {}
        self._dues: list[tuple[float, str]] = []
        self._changed = threading.Condition()
        self._closed = False
        self._hears = False
        self._failures = 0
        self._thread: threading.Thread | None = None

    def watch(self, job_id: str, told: Told) -> None:
        """Have ``told`` called with each change from now on, the first time with what it is."""
        with self._changed:
            now = time.monotonic()
            self._jobs[job_id] = _Watched(told, now, now)
            heappush(self._dues, (now, job_id))
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._run, name="batch-poller", daemon=True)
                self._thread.start()
            self._changed.notify()

    def forget(self, job_id: str) -> None:
        """Look at it no more."""
        with self._changed:
            self._jobs.pop(job_id, None)

    def ring(self, ids: Collection[str]) -> list[str]:
        """Look at these now, for something has become of them; those that are watched."""
        with self._changed:
            now = time.monotonic()
            ours = [job_id for job_id in ids if job_id in self._jobs]
            for job_id in ours:
                watched = self._jobs[job_id]
                watched.rung = now
                if watched.due != _UNDER_WAY:
                    self._look_again(job_id, watched, now)
            self._changed.notify()
            return ours

    def hears(self, hears: bool) -> None:
        """Whether changes are told by ``ring``: then jobs are looked at by themselves seldom."""
        with self._changed:
            lost, self._hears = self._hears and not hears, hears
            now = time.monotonic()
            for job_id, watched in self._jobs.items() if lost else ():
                if watched.due != _UNDER_WAY:
                    due = now + random.uniform(0, self._interval(watched, now))
                    self._look_again(job_id, watched, min(watched.due, due))
            self._changed.notify()

    @property
    def watched(self) -> int:
        """How many jobs are."""
        return len(self._jobs)

    def close(self) -> None:
        """Ask nothing more. A call under way is not waited for."""
        with self._changed:
            self._closed = True
            self._jobs.clear()
            self._changed.notify()

    def join(self, seconds: float) -> None:
        """Wait for the thread, at most so long; after ``close``."""
        if self._thread is not None:
            self._thread.join(seconds)

    def _run(self) -> None:
        while (ids := self._take()) is not None:
            try:
                self.counts.calls += 1
                found = self._describe(ids)
            except AwsError as error:
                self._on_error(error, ids)
            else:
                self.error, self._failures, self._said = None, 0, None
                self._rate.went_well()
                self._on_found(ids, found)

    def _take(self) -> list[str] | None:
        """The next jobs to look at, as many as one call takes; None once it is closed. Blocks."""
        with self._changed:
            while not self._closed:
                now = time.monotonic()
                while self._dues and not self._is_current(*self._dues[0]):
                    heappop(self._dues)
                if not self._dues:
                    self._changed.wait()
                elif (wait := self._dues[0][0] - now) > 0:
                    self._changed.wait(wait)
                else:
                    break
            if self._closed or not self._pause(self._rate.take(time.monotonic())):
                return None
            return self._take_due(time.monotonic())

    def _pause(self, seconds: float) -> bool:
        """Wait so long, with the lock let go; whether there is still anything to do."""
        until = time.monotonic() + seconds
        while not self._closed and (left := until - time.monotonic()) > 0:
            self._changed.wait(left)
        return not self._closed

    def _take_due(self, now: float) -> list[str]:
        """Also those that would be due soon: one call takes a hundred as it takes one."""
        ids: list[str] = []
        while self._dues and len(ids) < DESCRIBED and self._dues[0][0] <= now + self._every / 2:
            due, job_id = heappop(self._dues)
            if self._is_current(due, job_id):
                self._jobs[job_id].due = _UNDER_WAY
                ids.append(job_id)
        return ids

    def _is_current(self, due: float, job_id: str) -> bool:
        watched = self._jobs.get(job_id)
        return watched is not None and watched.due == due

    def _on_found(self, ids: Sequence[str], found: Mapping[str, Mapping[str, Any]]) -> None:
        for job_id in ids:
            detail = found.get(job_id)
            with self._changed:
                watched = self._jobs.get(job_id)
                if watched is None:
                    continue
                now = time.monotonic()
                seen = _signature(detail)
                changed = detail is None or seen != watched.seen
                if changed:
                    watched.seen, watched.since = seen, now
                known = detail is not None
                wait = self._interval(watched, now) if known else self._every
                self._look_again(job_id, watched, now + wait)
            if changed:
                watched.told(job_id, detail)

    def _interval(self, watched: _Watched, now: float) -> float:
        unchanged = now - watched.since
        if self._hears and now - watched.rung > AFTER_RING:
            return max(self._every, UNDER_EVENTS)
        return min(max(self._every, unchanged / LASTS), max(self._every, SELDOM))

    def _look_again(self, job_id: str, watched: _Watched, due: float) -> None:
        watched.due = due
        heappush(self._dues, (due, job_id))

    def _on_error(self, error: AwsError, ids: Sequence[str]) -> None:
        """Nothing is known: all of them are looked at again, later each time."""
        self.error = str(error)
        self.counts.failed += 1
        if error.code in THROTTLED:
            self.counts.throttled += 1
            self._rate.throttled()
        self._failures += 1
        denied = error.kind is ErrorKind.DENIED
        if (denied or self._failures > TOLD_AFTER) and self._said is None:
            self._said = self.error
            self._say(f"{error}; until it answers, no end of a job is known")
        longest = min(LONGEST_RETRY, FIRST_RETRY * 2 ** min(self._failures - 1, 10))
        with self._changed:
            due = time.monotonic() + random.uniform(longest / 2, longest)
            for job_id in ids:
                if (watched := self._jobs.get(job_id)) is not None:
                    self._look_again(job_id, watched, due)


def _signature(detail: Mapping[str, Any] | None) -> tuple[Any, ...] | None:
    if detail is None:
        return None
    return tuple(detail.get(name) for name in ("status", "statusReason", "startedAt", "stoppedAt"))
