"""What running jobs write, on its way to the store while they still write it.

Each look uploads only what is new since the last, as a part of its own, so the cost grows with the
output. The upload at a job's end replaces the parts by whole logs; if the machine is lost before
that, the parts are what is left of them.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

from runner.core.scheduler import Scheduler
from runner.core.states import WAITING
from runner.engine.surroundings import Surroundings
from runner.results.layout import Layout
from runner.results.store import ResultStore, StoreError

PART = 8 << 20
"""Bytes of the largest part."""

_STREAMS: tuple[Literal["stdout", "stderr"], ...] = ("stdout", "stderr")
_LOG = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(slots=True)
class _Log:
    """One stream of one attempt. ``done``: bytes that are in the store; None: not known yet."""

    job_id: str
    attempt: int
    stream: Literal["stdout", "stderr"]
    done: int | None = None


class LiveLogs:
    """``may_write`` raises StoreError while the store isn't ours; ``pool`` has one thread."""

    def __init__(
        self,
        surroundings: Surroundings,
        scheduler: Scheduler,
        pool: ThreadPoolExecutor,
        may_write: Callable[[], object],
    ) -> None:
        assert surroundings.results is not None
        self._around = surroundings
        self._scheduler = scheduler
        self._store: ResultStore = surroundings.results
        self._layout = Layout()
        self._pool = pool
        self._may_write = may_write
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._busy = False
        self._closed = False
        self._logs: dict[tuple[int, int], list[_Log]] = {}

    def poke(self) -> None:
        """Something may run: have it looked at, now and then."""
        if self._timer is None and not self._closed and (self._scheduler.live or self._logs):
            self._timer = self._loop.call_later(self._around.live_log_interval, self._look)

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
        self.poke()

    def _looked(self, _: asyncio.Future[None]) -> None:
        self._busy = False

    def _follow(self) -> None:
        jobs = self._scheduler.jobs
        for index in self._scheduler.live:
            live = jobs[index].live
            if live is not None and live.since is not None:
                name = self._scheduler.document.jobs[index].job_id
                made = [_Log(name, live.attempt, stream) for stream in _STREAMS]
                self._logs.setdefault((index, live.attempt), made)

    def _forget_ended(self) -> None:
        """A job that has ended has its logs uploaded as a whole; a retry's were just looked at."""
        jobs = self._scheduler.jobs
        for index, attempt in list(self._logs):
            live = jobs[index].live
            if live is None or live.attempt != attempt:
                del self._logs[index, attempt]

    def _open(self, job: int, attempt: int, log: _Log) -> int | None:
        """On the loop, as a new attempt's start is: only here it is certain whose file it is."""
        state = self._scheduler.jobs[job]
        if state.live is None and state.status not in WAITING:
            return None
        path = self._around.logs.of_attempt(log.job_id, attempt, state.attempt, log.stream)
        try:
            return os.open(path, _LOG)
        except OSError:
            return None

    def _upload(self, opened: list[tuple[_Log, int]]) -> None:
        try:
            for log, fd in opened:
                if self._closed:
                    return
                self._upload_one(log, fd)
        except (StoreError, OSError):
            return  # what is missing is uploaded with the next look
        finally:
            for _, fd in opened:
                os.close(fd)

    def _upload_one(self, log: _Log, fd: int) -> None:
        size = os.fstat(fd).st_size
        if size == (log.done or 0):
            return
        self._may_write()
        if log.done is None:
            log.done = self._stored(log)
        while log.done < size:
            data = os.pread(fd, min(PART, size - log.done), log.done)
            if not data:
                return
            key = self._layout.log_part_key(log.job_id, log.attempt, log.stream, log.done)
            self._store.put_bytes(key, data)
            log.done += len(data)

    def _stored(self, log: _Log) -> int:
        """How much an earlier session has stored of it."""
        prefix = self._layout.log_parts_prefix(log.job_id, log.attempt, log.stream)
        ends = [self._layout.log_part_offset(e.key) + e.size for e in self._store.list(prefix)]
        return max(ends, default=0)

    def close(self) -> None:
        """Look no more."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
