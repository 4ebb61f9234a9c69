"""Where a host serves those who look: in turns, and for a small part of its time only.

Lookers may be a thousand, and a page of jobs costs the loop milliseconds: so many would hold up
the queue that they look at. Owns the threads in which files are read for them: a look at a large
queue, or at a disk that hangs, waits for no other queue's, nor that for it.
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

READERS = 8
"""Queues whose files are read at once."""

_T = TypeVar("_T")


class ReadThrottle:
    """``busy`` tells whether there is work to be disturbed. Close it at the end."""

    def __init__(self, busy: Callable[[], bool]) -> None:
        self._busy = busy
        self._turns: dict[str, asyncio.Lock] = {}
        self._read_turns: dict[str, asyncio.Lock] = {}
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="looks")

    @asynccontextmanager
    async def turn(self, queue: str = "") -> AsyncIterator[None]:
        """Wait for one's turn on a queue's loop, in order; the rest after it is the next's wait."""
        async with self._rested(self._turns.setdefault(queue, asyncio.Lock())):
            yield

    async def read(self, queue: str, read: Callable[[], _T]) -> _T:
        """What ``read`` returns, called in a thread; those about one queue take turns."""
        async with self._rested(self._read_turns.setdefault(queue, asyncio.Lock())):
            return await asyncio.get_running_loop().run_in_executor(self._readers, read)

    @asynccontextmanager
    async def _rested(self, turn: asyncio.Lock) -> AsyncIterator[None]:
        await turn.acquire()
        begun = time.monotonic()
        try:
            yield
        finally:
            took = time.monotonic() - begun
            if took > DEAR and self._busy():
                asyncio.get_running_loop().call_later(REST * took, turn.release)
            else:
                turn.release()

    def close(self) -> None:
        """Begin nothing new."""
        self._readers.shutdown(wait=False, cancel_futures=True)
