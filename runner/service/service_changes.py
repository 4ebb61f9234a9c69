"""What tells the parts of a service that something has changed.

Owns the event that the service loop sleeps on, the future that waiting clients share, and the
notifications to systemd.
"""

from __future__ import annotations

import asyncio

from runner.host.notify import Notifier


class ServiceChanges:
    """``wake``: set when the service loop has to look at its queues. Made in the running loop."""

    def __init__(self, notifier: Notifier) -> None:
        self.wake = asyncio.Event()
        self.notifier = notifier
        self._next: asyncio.Future[None] | None = None
        self._next_of: dict[str, asyncio.Future[None]] = {}

    def next_of(self, name: str) -> asyncio.Future[None]:
        """Done at the next ``tell_of`` this queue, or ``tell``."""
        if name not in self._next_of:
            self._next_of[name] = asyncio.get_running_loop().create_future()
        return self._next_of[name]

    def tell_of(self, name: str) -> None:
        """Something has happened in this queue."""
        change = self._next_of.pop(name, None)
        if change is not None and not change.done():
            change.set_result(None)

    def next(self) -> asyncio.Future[None]:
        """Done at the next ``tell``."""
        if self._next is None or self._next.done():
            self._next = asyncio.get_running_loop().create_future()
        return self._next

    def tell(self) -> None:
        """Tell systemd, and complete the future of ``next``."""
        self.notifier.changed()
        change, self._next = self._next, None
        if change is not None and not change.done():
            change.set_result(None)
        for name in list(self._next_of):
            self.tell_of(name)

    async def sleep(self, seconds: float) -> None:
        """Sleep so long, or until ``wake`` is set."""
        try:
            await asyncio.wait_for(self.wake.wait(), max(0.0, seconds))
        except TimeoutError:
            pass
