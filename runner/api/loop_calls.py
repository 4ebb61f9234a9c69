"""Calls from other threads to a loop that may end at any time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from runner.errors import StateError

_T = TypeVar("_T")


class LoopCalls:
    """Made on the loop, in the thread that runs it. ``soon`` and ``ask`` are for other threads."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = threading.current_thread()
        self._tasks: set[asyncio.Task[None]] = set()

    def soon(self, call: Callable[[], object]) -> bool:
        """Have it called on the loop; False if that has ended."""
        try:
            self._loop.call_soon_threadsafe(call)
        except RuntimeError:
            return False
        return True

    def begin(self, call: Callable[[], Coroutine[Any, Any, None]]) -> bool:
        """Have the coroutine run on the loop, which itself holds tasks weakly."""

        def start() -> None:
            task = asyncio.ensure_future(call())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        return self.soon(start)

    def ask(self, call: Callable[[], Coroutine[Any, Any, _T]], otherwise: _T) -> _T:
        """What the coroutine returns, run on the loop; ``otherwise`` if that has ended."""
        coroutine = call()
        try:
            asked = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        except RuntimeError:
            coroutine.close()
            return otherwise
        while True:
            try:
                return asked.result(1.0)
            except TimeoutError:
                if asked.done() or self._thread.is_alive():
                    continue
                asked.cancel()
                return otherwise
            except StateError:
                return otherwise
