"""Holds a worker's task while it runs: by threads of its own, which nothing of the job can hold up.

One extends the lease in the database; after each time another does what else makes the task
invisible to others, however long that takes. A third watches this machine's own clock: it waits for
nobody's answer, so that the task's tree is ended, and nothing of it counts, before a lease is over
that could not be extended in time. Owns the worker's heartbeat, too.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from runner.errors import RunnerError
from runner.fleet.database import FleetDatabase
from runner.fleet.protocol import ends_before, extends_every
from runner.fleet.records import FleetTask

AGAIN = 2.0
"""Seconds until an extension that failed is tried again, at most."""

LOOK = 60.0
"""Seconds between two looks at the clock, at most."""


@dataclass(slots=True)
class _Held:
    task: FleetTask
    until: float
    lost: Callable[[str], None]
    also: Callable[[], None] | None


class LeaseKeeper:
    """One worker's. ``hold`` and ``let_go`` belong to the worker's thread."""

    def __init__(
        self,
        database: FleetDatabase,
        worker: int,
        lease: float,
        say: Callable[[str], None],
        drained: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``drained``: called, more than once, when the worker is to take no task any more."""
        self._database = database
        self._worker = worker
        self._lease = lease
        self._say = say
        self._drained = drained
        self._clock = clock
        self._held: _Held | None = None
        self._changed = threading.Condition()
        self._closed = False
        self._failed = ""
        self._extended: _Held | None = None
        self._threads = [
            threading.Thread(target=target, name="lease", daemon=True)
            for target in (self._run, self._keep, self._watch)
        ]
        for thread in self._threads:
            thread.start()

    def hold(
        self,
        task: FleetTask,
        since: float,
        lost: Callable[[str], None],
        also: Callable[[], None] | None = None,
    ) -> None:
        """Extend the task's lease from now on. ``since``: our clock before it was claimed.

        ``lost``: called once, when it is held no more; ``also``: called after each extension.
        """
        with self._changed:
            self._held, self._failed = _Held(task, since + self._lease, lost, also), ""
            self._changed.notify_all()

    def let_go(self) -> None:
        """Extend nothing any more."""
        with self._changed:
            self._held = None
            self._changed.notify_all()

    def close(self) -> None:
        """End the threads."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(10.0)
        self._database.close()

    def _run(self) -> None:
        wait = 0.0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed, wait)
                if self._closed:
                    return
                held = self._held
            wait = self._turn(held)

    def _turn(self, held: _Held | None) -> float:
        """Extend once and beat; returns the seconds until the next turn."""
        every = extends_every(self._lease)
        try:
            if self._database.beat(self._worker):
                self._drained()
            if held is not None:
                before = self._clock()
                if not self._database.tasks.extend(held.task, self._lease):
                    return self._lose(held, "it was cancelled, or its lease was over")
                held.until = before + self._lease
        except RunnerError as error:
            self._failed = f": {error}"
            return min(AGAIN, every)
        if held is not None:
            with self._changed:
                self._extended = held
                self._changed.notify_all()
        return every

    def _keep(self) -> None:
        """What follows an extension, by others' servers."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._extended is not None)
                held, self._extended = self._extended, None
                if self._closed:
                    return
                if held is None or held is not self._held or held.also is None:
                    continue
            try:
                held.also()
            except RunnerError as error:
                # The lease holds: a message that is seen by others is refused by the database.
                self._say(f"its message could not be kept from others: {error}")

    def _watch(self) -> None:
        while not self._closed:
            with self._changed:
                held = self._held
                if (left := self._left(held)) > 0:
                    self._changed.wait(left)
                    continue
            if held is not None:
                self._lose(held, f"its lease could not be extended in time{self._failed}")

    def _left(self, held: _Held | None) -> float:
        """Seconds until the work is to be ended, as things are; without any, until a next look."""
        if held is None:
            return LOOK
        return min(LOOK, held.until - ends_before(self._lease) - self._clock())

    def _lose(self, held: _Held, reason: str) -> float:
        with self._changed:
            if self._held is held:
                self._held = None
                held.lost(reason)
        return 0.05
