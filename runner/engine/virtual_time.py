"""An event loop whose time is its own: it waits for nothing, and is the same each time.

Where a loop would sleep until its next timer, this one is there at once. What goes to a thread is
done on the loop, after as long as ``latency`` says, so that nothing depends on the system's
scheduler. Must not know what runs on it.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from typing import Any, TypeVar

_T = TypeVar("_T")


class StuckError(RuntimeError):
    """Nothing is ready, nothing is under way and no timer is set: it would wait for ever."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """``start``: its first time, in seconds as of a boot; ``epoch``: the wall time at zero."""

    def __init__(
        self, epoch: float, start: float = 0.0, latency: Callable[[], float] = lambda: 0.0
    ) -> None:
        self._virtual = start
        self._epoch = epoch
        self._latency = latency
        super().__init__(_Skipping(self))

    def time(self) -> float:
        """See AbstractEventLoop."""
        return self._virtual

    def wall(self) -> float:
        """Seconds since the epoch."""
        return self._epoch + self._virtual

    def skip(self, seconds: float) -> None:
        """Let so much time pass at once."""
        self._virtual += seconds

    def run_in_executor(  # type: ignore[override]
        self, executor: object, func: Callable[..., _T], *args: Any
    ) -> asyncio.Future[_T]:
        """Do it on the loop, later; ``executor`` is left alone."""
        future: asyncio.Future[_T] = self.create_future()
        self.call_later(self._latency(), self._work, future, func, args)
        return future

    def _work(
        self, future: asyncio.Future[_T], func: Callable[..., _T], args: tuple[Any, ...]
    ) -> None:
        if future.cancelled():
            return
        try:
            result = func(*args)
        except Exception as error:
            future.set_exception(error)
        else:
            future.set_result(result)


class _Skipping(selectors.DefaultSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._virtual_loop = loop

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if not ready and timeout is None:
            raise StuckError("nothing will ever happen on this loop")
        if not ready and timeout:
            self._virtual_loop.skip(timeout)
        return ready
