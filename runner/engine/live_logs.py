"""What running jobs write, on its way to the store while they still write it.

Each look uploads only what is new since the last, as a part of its own, so the cost grows with the
output. The upload at a job's end replaces the parts by whole logs; if the machine is lost before
that, the parts are what is left of them.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable

from runner.core.scheduler import Scheduler
from runner.core.states import WAITING
from runner.engine.call_threads import CallThreads, patience_with
from runner.engine.context import EngineContext
from runner.results.layout import STREAMS
from runner.results.store import ResultStore, StoreError
from runner.results.upload.log_tail import LogTail

LOOK_TIME = 10.0
"""Seconds that one look takes at most: a log that grows faster than it can be stored holds up no
other's first look."""

_LOG = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class LiveLogs:
    """``may_write`` raises StoreError while the store isn't ours.

    One thread of its own: a log of any size must not hold up the state.
    """

    def __init__(
        self,
        context: EngineContext,
        scheduler: Scheduler,
        may_write: Callable[[], object],
    ) -> None:
        assert context.results is not None
        self._context = context
        self._scheduler = scheduler
        self._store: ResultStore = context.results
        self._pool = CallThreads(1, "live-logs", patience_with(self._store))
        self._may_write = may_write
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._busy = False
        self._closed = False
        self._logs: dict[tuple[int, int], list[LogTail]] = {}
        self._turn = threading.Condition()
        self._writing: LogTail | None = None
        self._whole: dict[str, int] = {}

    def leave_to_upload(self, job_id: str, attempt: int) -> None:
        """The logs of a job, up to this attempt's, are about to be uploaded as a whole.

        No part of them is on its way when this returns: it would stay beside the whole log. Called
        in a thread.
        """
        with self._turn:
            self._whole[job_id] = attempt
            self._turn.wait_for(lambda: self._writing is None or not self._is_whole(self._writing))

    def _is_whole(self, log: LogTail) -> bool:
        return log.attempt <= self._whole.get(log.job_id, 0)

    def wake(self) -> None:
        """Something may run: have it looked at, now and then."""
        if self._timer is None and not self._closed and (self._scheduler.live or self._logs):
            self._timer = self._loop.call_later(self._context.live_log_interval, self._look)

    def _look(self) -> None:
        self._timer = None
        if not self._busy:
            self._follow()
            opened = [
                (log, fd)
                for (job, attempt), logs in self._logs.items()
                for log in logs
                if (fd := self._open(job, attempt, log)) is not None
            ]
            self._forget_ended()
            if opened:
                self._busy = True
                work = self._loop.run_in_executor(self._pool, self._upload, opened)
                work.add_done_callback(self._looked)
        self.wake()

    def _looked(self, future: asyncio.Future[bool]) -> None:
        self._busy = False
        if self._closed or future.cancelled() or future.exception() or not future.result():
            return
        if self._timer is not None:
            self._timer.cancel()
        self._look()  # there is more already

    def _follow(self) -> None:
        jobs = self._scheduler.jobs
        for index in self._scheduler.live:
            live = jobs[index].live
            if live is not None and live.since is not None:
                name = self._scheduler.document.jobs[index].job_id
                made = [LogTail(self._store, name, live.attempt, stream) for stream in STREAMS]
                self._logs.setdefault((index, live.attempt), made)

    def _forget_ended(self) -> None:
        """A job that has ended has its logs uploaded as a whole; a retry's were just looked at."""
        jobs = self._scheduler.jobs
        for index, attempt in list(self._logs):
            live = jobs[index].live
            if live is None or live.attempt != attempt:
                del self._logs[index, attempt]

    def _open(self, job: int, attempt: int, log: LogTail) -> int | None:
        """On the loop, as a new attempt's start is: only here it is certain whose file it is."""
        state = self._scheduler.jobs[job]
        if state.live is None and state.status not in WAITING:
            return None
        path = self._context.logs.of_attempt(log.job_id, attempt, state.attempt, log.stream)
        try:
            return os.open(path, _LOG)
        except OSError:
            return None

    def _upload(self, opened: list[tuple[LogTail, int]]) -> bool:
        """Store what is new, of each log one part in turn; whether there is more."""
        until = self._loop.time() + LOOK_TIME
        left = opened
        try:
            while left and self._loop.time() < until and not self._closed:
                left = [(log, fd) for log, fd in left if self._upload_part(log, fd)]
            return bool(left)
        except (StoreError, OSError):
            return False  # what is missing is uploaded with the next look
        finally:
            for _, fd in opened:
                os.close(fd)

    def _upload_part(self, log: LogTail, fd: int) -> bool:
        """Store the next part of a log; whether there may be another."""
        if not log.has_more(fd):
            return False
        self._may_write()
        with self._turn:
            if self._is_whole(log):
                return False
            self._writing = log
        try:
            return log.put_next(fd)
        finally:
            with self._turn:
                self._writing = None
                self._turn.notify_all()

    def close(self) -> None:
        """Look no more."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._pool.end()
