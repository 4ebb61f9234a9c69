"""Where a host serves those who look: one at a time, and for a small part of its time only.

Lookers may be a thousand, and a page of jobs costs the loop milliseconds: so many would hold up
the queue that they look at. Owns the one thread in which files are read for them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TypeVar

REST = 4.0
"""After a look that took a while nobody looks for so many times as long."""

DEAR = 0.001
"""Seconds from which on a look has taken a while."""

_T = TypeVar("_T")


class Desk:
    """``busy`` tells whether there is work to be disturbed. Close it at the end."""

    def __init__(self, busy: Callable[[], bool]) -> None:
        self._busy = busy
        self._turn = asyncio.Lock()
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="looks")

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for one's turn, in order; the rest after it is the next one's to wait for."""
        await self._turn.acquire()
        begun = time.monotonic()
        try:
            yield
        finally:
            took = time.monotonic() - begun
            if took > DEAR and self._busy():
                asyncio.get_running_loop().call_later(REST * took, self._turn.release)
            else:
                self._turn.release()

    async def read(self, read: Callable[[], _T]) -> _T:
        """What ``read`` returns, called in the thread for files."""
        return await asyncio.get_running_loop().run_in_executor(self._reader, read)

    def close(self) -> None:
        """Begin nothing new."""
        self._reader.shutdown(wait=False, cancel_futures=True)
