"""Former results moved aside before an attempt starts, for jobs whose document says so.

Owns which moves are under way. They come after the attempt's intent is durable and before it is
handed to a shim: whatever cuts them off, the start never was, and the next one begins with them.
No two moves of one job go at once, and a session's end waits for them: what a job has made is
never moved from under it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from runner.core import events as ev
from runner.core.actions import StartAttempt
from runner.core.scheduler import Scheduler
from runner.engine.clock import now
from runner.engine.context import EngineContext

THREADS = 4


class CalledOffError(Exception):
    """Nobody wants the attempt any more."""


class ResultClearing:
    """The moves of one session; ``then`` is told of each attempt once, with what went wrong."""

    def __init__(
        self,
        context: EngineContext,
        scheduler: Scheduler,
        post: Callable[[ev.Event], None],
        then: Callable[[StartAttempt, Exception | None], None],
    ) -> None:
        self._context = context
        self._scheduler = scheduler
        self._post = post
        self._then = then
        self._loop = asyncio.get_running_loop()
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="clearing")
        self._called_off: dict[str, threading.Event] = {}
        self._busy: dict[int, threading.Lock] = {}

    def begin(self, action: StartAttempt) -> bool:
        """Move the job's former results aside; False if it has none to be moved."""
        job = self._scheduler.document.jobs[action.job]
        patterns = job.fresh_paths("clear")
        if not patterns:
            return False
        # Imported where it is needed: most queues have no such job.
        from runner.results.set_aside import AsideRequest, set_aside

        wanted = AsideRequest(
            job.job_id,
            patterns,
            self._context.working_directory(self._scheduler.document, job),
            job.checkpoint_paths,
            action.attempt == 1,
            self._context.rights,
            self._own(),
        )
        off = self._called_off[action.token] = threading.Event()
        busy = self._busy.setdefault(action.job, threading.Lock())

        def check() -> None:
            if off.is_set():
                raise CalledOffError

        def move() -> int:
            with busy:
                check()
                return set_aside(wanted, check)

        work = self._loop.run_in_executor(self._threads, move)
        work.add_done_callback(lambda future: self._ended(action, future))
        return True

    def _own(self) -> frozenset[str]:
        store = self._context.results
        folder = store.local_folder if store is not None else None
        return self._context.own | {folder} if folder else self._context.own

    def _ended(self, action: StartAttempt, future: asyncio.Future[int]) -> None:
        error = None if future.cancelled() else future.exception()
        if future.cancelled() or not self.call_off(action.token):
            return
        if error is not None and not isinstance(error, Exception):
            raise error
        if error is None and (files := future.result()):
            self._post(ev.ResultsSetAside(now(), action.job, files))
        self._then(action, error)

    def call_off(self, token: str) -> bool:
        """The attempt is not wanted any more; False if nothing was under way for it."""
        off = self._called_off.pop(token, None)
        if off is None:
            return False
        off.set()
        return True

    def stop(self) -> None:
        """Begin nothing more, and end what is under way."""
        for token in list(self._called_off):
            self.call_off(token)
        self._threads.shutdown(wait=False, cancel_futures=True)

    def join(self) -> None:
        """Wait for what is under way. Blocks; after ``stop``."""
        self._threads.shutdown(wait=True)
