"""Threads for calls that may hang for minutes in a network that is away.

Owns how long an end waits for them: a folder's are always waited for, S3's only a moment. What a
call that nobody waits for does yet is done again by the next start.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

from runner.results.store import ResultStore

GRACE = 2.0
"""Seconds in which a call that is told to end, or a last one, comes back if S3 answers at all."""


def patience_with(store: ResultStore) -> float | None:
    """Seconds to wait for a store's calls at the end; None as long as they take."""
    return None if store.local_folder is not None else GRACE


class _Call:
    """A call that stays undone once it was refused, though it may stand in the line already."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call
        self.refused = False

    def __call__(self, *args: Any, **named: Any) -> Any:
        return None if self.refused else self._call(*args, **named)


class CallThreads(ThreadPoolExecutor):
    """So many threads, whose end is waited for ``patience`` seconds."""

    def __init__(self, count: int, name: str, patience: float | None = GRACE) -> None:
        super().__init__(count, thread_name_prefix=name)
        self._patience = patience
        self._under_way: set[Future[Any]] = set()
        self._ended = False

    def submit(self, call: Callable[..., Any], /, *args: Any, **named: Any) -> Future[Any]:
        """See Executor."""
        work = _Call(call)
        try:
            future = super().submit(work, *args, **named)
        except RuntimeError as error:
            if self._ended:
                raise
            # The system gives no thread: the call has failed as one that was begun may.
            work.refused = True
            future = Future()
            future.set_exception(error)
            return future
        self._under_way.add(future)
        future.add_done_callback(self._under_way.discard)
        return future

    def stop(self) -> None:
        """Begin nothing more."""
        self._ended = True
        self.shutdown(wait=False, cancel_futures=True)

    def join(self) -> None:
        """Wait for what is under way, if it ends at all. Blocks."""
        wait(self._under_way.copy(), self._patience)

    def end(self) -> None:
        """Begin nothing more, and wait."""
        self.stop()
        self.join()
