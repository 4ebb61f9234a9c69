"""Calls of a session to the store and to AWS Batch: made in threads, answered on its loop.

Owns which are tried again: what the network, or a service that is busy, keeps from being answered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from runner.aws.errors import AwsError, ErrorKind
from runner.engine.backoff import backoff
from runner.engine.call_threads import CallThreads
from runner.errors import RunnerError
from runner.results.store import StoreError

CALLS_AT_ONCE = 16
"""Threads: where a call takes 100 ms they keep up with 40 starts a second."""

TOLD_AFTER = 2
"""Tries of a call that fail without a word."""

_T = TypeVar("_T")


def _always() -> bool:
    return True


class BatchCalls:
    """``loop`` is the session's. Its methods are called there. ``say`` takes what a person should
    know of calls that are tried again and again: each thing once."""

    def __init__(self, say: Callable[[str], None], count: int = CALLS_AT_ONCE) -> None:
        self.loop = asyncio.get_running_loop()
        self.closed = False
        self._say = say
        self._said: set[str] = set()
        self._threads = CallThreads(count, "batch")

    def on_loop(self, told: Callable[[str, Any], None]) -> Callable[[str, Any], None]:
        """The same for other threads: it is called on the loop."""

        def tell(name: str, value: Any) -> None:
            with suppress(RuntimeError):  # the loop is closed: it isn't waited for any more
                self.loop.call_soon_threadsafe(told, name, value)

        return tell

    def call(
        self, work: Callable[[], _T], done: Callable[[_T], None], *, quiet: bool = False
    ) -> None:
        """Do it, then ``done``. What it raises ends the session, or with ``quiet`` nothing."""
        if self.closed:
            return
        future = self.loop.run_in_executor(self._threads, work)

        def ended(future: asyncio.Future[_T]) -> None:
            if future.cancelled():
                return
            error = future.exception()
            if self.closed or (error is not None and quiet):
                return
            if error is not None:
                raise error
            done(future.result())

        future.add_done_callback(ended)

    def insist(
        self,
        work: Callable[[], _T],
        done: Callable[[_T], None],
        wanted: Callable[[], bool] = _always,
        failed: Callable[[RunnerError], None] | None = None,
        tries: int = 0,
    ) -> None:
        """The same, tried again while store and Batch don't answer, and it is ``wanted``.

        ``failed`` takes what another try would not change: a record that can't be read. None: that
        ends the session.
        """

        def attempted() -> _T | RunnerError:
            try:
                return work()
            except RunnerError as error:
                return error

        def again() -> None:
            if wanted() and not self.closed:
                self.insist(work, done, wanted, failed, tries + 1)

        def ended(found: _T | RunnerError) -> None:
            if not isinstance(found, RunnerError):
                done(found)
            elif passes(found):
                self._tell(found, tries)
                self.loop.call_later(backoff(tries + 1), again)
            elif failed is None:
                raise found
            else:
                failed(found)

        self.call(attempted, ended)

    def _tell(self, error: RunnerError, tries: int) -> None:
        """Not what passes at once; a missing right doesn't pass by itself."""
        denied = isinstance(error, AwsError) and error.kind is ErrorKind.DENIED
        if (denied or tries >= TOLD_AFTER) and str(error) not in self._said:
            self._said.add(str(error))
            self._say(f"{error}; it is tried again")

    def stop(self) -> None:
        """Begin nothing more, and answer nothing."""
        self.closed = True
        self._threads.stop()

    def join(self) -> None:
        """Wait for what is under way, a moment. Blocks; after ``stop``."""
        self._threads.join()


def passes(error: RunnerError) -> bool:
    """Whether it may be another time: also a permission may be given meanwhile."""
    if isinstance(error, AwsError):
        return error.kind is not ErrorKind.INVALID
    return isinstance(error, StoreError)
