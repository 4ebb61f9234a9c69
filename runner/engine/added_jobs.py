"""Jobs that a queue gets while it runs: asked for by a caller, or left in a file by a job.

Owns which ids are on their way into the queue, and the reading of the files. A job whose command
has succeeded has not ended before its file was read: nothing that is decided meanwhile claims that
end, and if this process goes the next one reads it again.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections import ChainMap
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from runner.core import events as ev
from runner.core.scheduler import Scheduler
from runner.core.states import QUEUE_ENDED
from runner.engine.clock import now
from runner.engine.context import EngineContext
from runner.errors import ConflictError, DocumentError, StateError
from runner.model.growth import check_added
from runner.model.queue import JobSpec, QueueSpec
from runner.rights import Rights, acting_as

_TOLD = 5
"""So many errors of a file are in its job's message."""

MOST_JOBS = 1_000_000
"""Jobs of a queue that others may add to: each takes 2 KB of the process that works on it."""


class AddedJobs:
    """Of one session. ``post`` takes the ends of jobs whose files have been read, ``request`` what
    is to be durable before it returns."""

    def __init__(
        self,
        context: EngineContext,
        scheduler: Scheduler,
        post: Callable[[ev.Event], None],
        request: Callable[[ev.Event, str | None], Awaitable[None]],
    ) -> None:
        self._context = context
        self._scheduler = scheduler
        self._post = post
        self._request = request
        self._announced: dict[str, Any] = {}
        self._places: dict[str, int] = {}
        self._turn = asyncio.Lock()
        self._reading: set[str] = set()
        self._threads = ThreadPoolExecutor(1, "expansion")
        self._stopped = False

    async def add(self, jobs: tuple[JobSpec, ...], request_id: str | None = None) -> range:
        """Add jobs, and wait until they are durable, with the id of the request; the numbers of
        their units.

        Raises DocumentError with every fault, StateError where the queue has ended.
        """
        scheduler = self._scheduler
        if scheduler.finished or scheduler.queue.status in QUEUE_ENDED:
            raise self._ended()
        if not jobs:
            return range(0)
        known: ChainMap[str, Any] = ChainMap(self._announced, scheduler.graph.index)
        check_added(jobs, known)
        names = [job.job_id for job in jobs]
        self._announced.update(dict.fromkeys(names))
        try:
            await self._request(ev.JobsAdded(now(), jobs), request_id)
        finally:
            for name in names:
                self._announced.pop(name, None)
        first, last = scheduler.units_of(names[0]), scheduler.units_of(names[-1])
        if first is None or last is None:
            raise self._ended()
        return range(first.start, last.stop)

    async def add_once(self, jobs: tuple[JobSpec, ...]) -> int:
        """Add those of these that are not there yet, as ``add`` does; how many these were.

        A job that is there as it is given was added before: a request whose answer was lost is
        made again. Raises ConflictError for another job of the same id, or too many jobs.
        """
        async with self._turn:  # the one before may be on its way to the disk
            given = self._scheduler.given.jobs
            for at in range(len(self._places), len(given)):
                self._places[given[at].job_id] = at
            new = []
            for job in jobs:
                at_place = self._places.get(job.job_id)
                if at_place is None:
                    new.append(job)
                elif given[at_place] != job:
                    raise ConflictError(f"the queue has another job '{job.job_id}' already")
            if (total := len(given) + len(new)) > MOST_JOBS:
                raise ConflictError(f"the queue would have {total:,} jobs: at most {MOST_JOBS:,}")
            await self.add(tuple(new))
            return len(new)

    def _ended(self) -> StateError:
        return StateError(f"queue '{self._context.queue_id}' has ended: it takes no more jobs")

    def with_fan_out(self, event: ev.Event) -> ev.Event:
        """What is to be handled now: of a job whose file is to be read only that its command has
        ended. Its end is posted once that is done."""
        if not isinstance(event, ev.AttemptEnded) or event.fan_out is not None:
            return event
        job = self._scheduler.document.jobs[event.job]
        live = self._scheduler.attempt(event.job, event.token)
        if job.expands is None or event.outcome != ev.Exited(0) or live is None or live.stop:
            return event
        if event.token not in self._reading and not self._stopped:
            self._reading.add(event.token)
            self._read(job, event)
        return ev.CommandEnded(event.now, event.job, event.token)

    def _read(self, job: JobSpec, event: ev.AttemptEnded) -> None:
        scheduler, context = self._scheduler, self._context
        assert job.expands is not None
        folder = context.working_directory(scheduler.document, job)
        queue = replace(scheduler.given, jobs=(), added={})
        path = os.path.join(folder, job.expands)
        reading = asyncio.get_running_loop().run_in_executor(
            self._threads, read_fan_out, path, job, queue, context.rights
        )

        def done(read: asyncio.Future[ev.FanOut]) -> None:
            if self._stopped or read.cancelled():
                return
            if (error := read.exception()) is not None:
                # A bug: its job must not wait for ever.
                fault = f"{job.expands}: internal error: {type(error).__name__}: {error}"
                found = ev.FanOut(fault=fault)
            else:
                found = read.result()
            self._reading.discard(event.token)
            self._post(replace(event, now=now(), fan_out=found))

        reading.add_done_callback(done)

    def stop(self) -> None:
        """Read nothing more: the next session does."""
        self._stopped = True
        self._threads.shutdown(wait=False, cancel_futures=True)


def read_fan_out(path: str, job: JobSpec, queue: QueueSpec, rights: Rights | None) -> ev.FanOut:
    """The jobs in a file, or what is wrong with it; ``queue``: what they are added to. Blocks."""
    from runner.model.expansion.fan_out import parse_fan_out

    try:
        raw = _content(path, rights)
        return ev.FanOut(parse_fan_out(raw, queue, job.job_id))
    except FileNotFoundError:
        fault = "there is no such file: the job expands to what it leaves there"
    except OSError as error:
        fault = f"can't be read: {error.strerror or error}"
    except DocumentError as error:
        more = len(error.errors) - _TOLD
        told = [*error.errors[:_TOLD], *([f"… ({more:,} more)"] if more > 0 else [])]
        fault = "; ".join(told)
    return ev.FanOut(fault=f"{job.expands}: {fault}")


def _content(path: str, rights: Rights | None) -> bytes:
    from runner.model.json_reader import MAX_BYTES

    with acting_as(rights):
        # Not to wait for a pipe's other end.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with open(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise DocumentError(["is no regular file"])
        return file.read(MAX_BYTES + 1)
