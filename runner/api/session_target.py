"""A target that is a queue of this package's engine, in a thread of the calling process.

Owns that thread, its loop and the session on it. Everything else calls from other threads and is
brought to the loop. Jobs are taken in batches: what arrives while a step is being stored is in the
next one. Where the attempts run is for those that inherit from it.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace

from runner.api.capabilities import Capabilities
from runner.api.job_files import JobFiles
from runner.api.job_target import CommandOutput, JobEnd, JobListener
from runner.api.local_jobs import end_of, names_of
from runner.api.loop_calls import LoopCalls
from runner.api.payload import PickledPayload
from runner.api.tasks import PayloadReference, Task
from runner.core import events as ev
from runner.core.scheduler import StoryEntry
from runner.core.states import ENDED, WAITING, JobStatus
from runner.errors import DocumentError, NotFoundError, StateError
from runner.model.document import JobSpec
from runner.model.elements import split_name
from runner.model.messages import quoted
from runner.model.settings import Settings
from runner.service.open_queue import open_queue
from runner.service.queue_repository import QueueRepository
from runner.service.session import RunContext, Session

DETACH_WAIT = 60.0
"""Seconds in which a target that is let go has what was submitted on its way into the queue."""


class SessionTarget:
    """See JobTarget. ``open`` begins; it raises LockedError if another process works on the queue,
    and what opening a queue raises. ``max_parallel``: jobs that run at once.

    Those that inherit say what a task is as a job (``_job``) and where it runs (``_enter``).
    """

    region: str | None = None
    id_prefix = ""

    def __init__(
        self,
        settings: Settings,
        queue_id: str,
        listener: JobListener,
        *,
        name: str,
        max_parallel: int,
    ) -> None:
        self.name = name
        self.queue_id = queue_id
        self._settings = settings
        self._listener = listener
        self._max_parallel = max_parallel
        self._repository = QueueRepository(settings.state_dir, settings.log_dir)
        self._payloads = self._repository.queue_paths(queue_id).payloads
        self._files: JobFiles
        self._incoming: deque[JobSpec] = deque()
        self._adding: asyncio.Task[None] | None = None
        self._coming: dict[str, JobSpec] = {}
        self._arrived: asyncio.Event
        self._followed: set[str] = set()
        self._withdrawn: set[int] = set()
        self._session: Session
        self._calls: LoopCalls
        self._first = 0
        self._thread: threading.Thread

    # -- for those that inherit --------------------------------------------------------------

    def _enter(self) -> RunContext:
        """Where attempts run. The queue is there, and its lock is held. Blocks."""
        raise NotImplementedError

    def _left(self, *, over: bool) -> None:
        """The session is closed. ``over``: nothing is left to do. Blocks."""

    def _job(self, task: Task) -> JobSpec:
        """The job that carries a task out."""
        raise NotImplementedError

    def _deliver(self, end: JobEnd, number: int) -> None:
        """Tell of an end, once its files can be read. On the loop; returns at once."""
        self._listener.ended(end)

    def _begun(self, number: int) -> bool:
        """Whether an attempt that was started runs: it may wait where it was sent."""
        return True

    async def _withdraw(self, numbers: Sequence[int]) -> tuple[int, ...]:
        """Those of these jobs whose attempts had not begun, and now never will."""
        return ()

    # -- the thread --------------------------------------------------------------------------

    def open(self) -> None:
        """Begin; return once jobs can be taken."""
        ready: Future[int] = Future()
        self._thread = threading.Thread(
            target=self._run, args=(ready,), name=f"runner-{self.name}", daemon=True
        )
        self._thread.start()
        self._first = ready.result()

    def _run(self, ready: Future[int]) -> None:
        try:
            asyncio.run(self._work(ready))
        except BaseException as error:
            if ready.done():
                self._listener.failed(error)
            else:
                ready.set_exception(error)

    async def _work(self, ready: Future[int]) -> None:
        repository, over = self._repository, False
        lock = repository.lock(self.queue_id, f"an Executor (pid {os.getpid()})")
        try:
            open_queue(repository, self.queue_id, self._max_parallel)
            self._payloads.mkdir(mode=0o700, exist_ok=True)
            self._calls = LoopCalls()
            self._arrived = asyncio.Event()
            try:
                context = self._enter()
                session = self._session = Session(
                    repository, self._settings, self.queue_id, context, self._on_story
                )
                try:
                    repository.set_current(self.queue_id)
                    working = session.run(lambda now: ev.IntakeChanged(now, accepts=True))
                    ready.set_result(len(session.names))
                    await working
                    over = session.scheduler.finished
                finally:
                    session.close()
            finally:
                self._left(over=over)
        finally:
            lock.release()

    def _on_story(self, entries: list[StoryEntry]) -> None:
        """On the loop, once these are durable."""
        names, states = self._session.names, self._session.scheduler.jobs
        for number in dict.fromkeys(entry.job for entry in entries if entry.job is not None):
            job_id = names[number]
            if job_id in self._followed:
                self._tell(job_id, number, states[number].status)

    def _tell(self, job_id: str, number: int, status: JobStatus) -> None:
        if status in ENDED:
            self._followed.discard(job_id)
            self._deliver(self._end(job_id, number), number)
        elif status is JobStatus.RUNNING and self._begun(number):
            self._listener.started(job_id)

    def _end(self, job_id: str, number: int) -> JobEnd:
        scheduler = self._session.scheduler
        end = end_of(job_id, scheduler.document.jobs[number], scheduler.jobs[number])
        return replace(end, attempt=0) if number in self._withdrawn else end

    def _number(self, job_id: str) -> int | None:
        """The job's, on the loop; None: it isn't in the queue, or not yet."""
        name, index = split_name(job_id)
        units = self._session.scheduler.units_of(name)
        if units is None or (index is None and len(units) != 1) or (index or 0) >= len(units):
            return None
        number = units[index or 0]
        return number if self._session.names[number] == job_id else None

    # -- jobs --------------------------------------------------------------------------------

    def away(self, capabilities: Capabilities, *, function: bool) -> str | None:
        """See JobTarget."""
        return None

    def first_number(self) -> int:
        """See JobTarget."""
        return self._first + 1

    def store_call(self, job_id: str, body: bytes, path: Sequence[str]) -> PayloadReference:
        """See JobTarget."""
        return self._files.store_call(job_id, body, path)

    def add(self, task: Task) -> None:
        """See JobTarget."""
        self._followed.add(task.id)
        self._take(self._job(task))

    def _take(self, job: JobSpec) -> None:
        self._incoming.append(job)
        if not self._calls.soon(self._flush):
            self._refuse(job, StateError("the executor's queue has ended"))

    def _admit(self) -> None:
        """Some that were on their way are not any more. On the loop."""
        self._arrived.set()

    def _refuse(self, job: JobSpec, error: Exception) -> None:
        for name in names_of(job):
            self._followed.discard(name)
            self._listener.refused(name, error)

    def _flush(self) -> None:
        if self._incoming and (self._adding is None or self._adding.done()):
            self._adding = asyncio.ensure_future(self._add())

    async def _add(self) -> None:
        while self._incoming:
            jobs = list(self._incoming)
            self._incoming.clear()
            await self._add_these(jobs)

    async def _add_these(self, jobs: list[JobSpec]) -> None:
        try:
            await self._session.add_jobs(jobs)
        except Exception as error:
            told = error
            if isinstance(error, DocumentError):
                if len(jobs) > 1:
                    for job in jobs:  # one at a time, so that one alone is refused
                        await self._add_these([job])
                    return
                told = ValueError(str(error))
            for job in jobs:
                self._refuse(job, told)

    def follow(self, job_id: str) -> None:
        """See JobTarget."""

        async def look() -> bool:
            number = self._number(job_id)
            if number is None:
                return False
            self._followed.add(job_id)
            self._tell(job_id, number, self._session.scheduler.jobs[number].status)
            return True

        if not self._calls.ask(look, False):
            raise NotFoundError(f"there is no job {quoted(job_id)} in queue '{self.queue_id}'")

    def cancel(self, job_id: str) -> bool:
        """See JobControl."""

        async def cancel() -> bool:
            if self._cancel_before(job_id):
                return True
            await self._all_added()
            number = self._number(job_id)
            if number is None:
                return False
            if await self._take_back([number]):
                return True
            await self._session.request(
                lambda now: ev.CancelRequested(now, (number,), waiting_only=True)
            )
            return self._session.scheduler.jobs[number].status is JobStatus.CANCELLED

        return self._calls.ask(cancel, False)

    def _cancel_before(self, job_id: str) -> bool:
        """Take back a job that isn't in the queue yet."""
        job = self._coming.pop(job_id, None)
        if job is None:
            job = next((each for each in self._incoming if each.job_id == job_id), None)
            if job is None:
                return False
            self._incoming.remove(job)
        self._admit()
        self._say_cancelled([job])
        return True

    def _say_cancelled(self, jobs: Iterable[JobSpec]) -> None:
        for name in (name for job in jobs for name in names_of(job)):
            self._followed.discard(name)
            self._listener.ended(JobEnd(name, JobStatus.CANCELLED.value))

    def cancel_waiting(self) -> None:
        """See JobTarget."""

        async def cancel() -> None:
            early = [*self._incoming, *self._coming.values()]
            self._incoming.clear()
            self._coming.clear()
            self._arrived.set()
            self._say_cancelled(early)
            await self._all_added()
            states = self._session.scheduler.jobs
            numbers = map(self._number, self._followed)
            known = [each for each in numbers if each is not None]
            waiting = tuple(each for each in known if states[each].status in WAITING)
            if waiting:
                await self._session.request(
                    lambda now: ev.CancelRequested(now, waiting, waiting_only=True)
                )
            await self._take_back(known)

        self._calls.ask(cancel, None)

    async def _take_back(self, numbers: Sequence[int]) -> bool:
        """Cancel those whose attempts had not begun; whether there are any."""
        if withdrawn := await self._withdraw(numbers):
            self._withdrawn.update(withdrawn)
            await self._session.request(lambda now: ev.CancelRequested(now, withdrawn))
        return bool(withdrawn)

    def terminate(self, job_id: str) -> None:
        """See JobControl."""

        def end() -> None:
            number = self._number(job_id)
            if number is not None:
                self._session.tell(lambda now: ev.CancelRequested(now, (number,)))

        self._calls.soon(end)

    def terminate_all(self) -> None:
        """See JobTarget."""

        def end() -> None:
            jobs = tuple(self._number(job_id) for job_id in self._followed)
            known = tuple(number for number in jobs if number is not None)
            self._session.tell(lambda now: ev.CancelRequested(now, known))

        self._calls.soon(end)

    def status(self, job_id: str) -> str:
        """See JobControl."""

        async def look() -> str:
            number, states = self._number(job_id), self._session.scheduler.jobs
            status = JobStatus.PENDING if number is None else states[number].status
            if number is not None and status is JobStatus.RUNNING and not self._begun(number):
                status = JobStatus.PENDING
            return status.value

        return self._calls.ask(look, "unknown")

    def region_of(self, job_id: str) -> str | None:
        """See JobControl."""
        return self.region

    def logs(self, job_id: str, stream: str) -> str:
        """See JobControl."""
        return self._files.log(job_id, stream)

    def output(self, end: JobEnd) -> CommandOutput:
        """See JobTarget."""
        return self._files.output(end)

    def result(self, end: JobEnd) -> PickledPayload | None:
        """See JobTarget."""
        return self._files.result(end)

    def forget(self, end: JobEnd) -> None:
        """See JobTarget."""
        self._files.forget(end)

    # -- the end -----------------------------------------------------------------------------

    def close(self) -> None:
        """See JobTarget."""

        async def close() -> None:
            await self._all_added()
            with suppress(StateError):
                await self._session.set_intake(False)

        self._calls.begin(close)

    def detach(self) -> None:
        """See JobTarget. What was submitted is durable first."""

        async def detach() -> None:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._all_added(), DETACH_WAIT)
            self._session.detach()

        self._calls.begin(detach)

    async def _all_added(self) -> None:
        while self._coming:
            self._arrived.clear()
            await self._arrived.wait()
        while self._adding is not None and not self._adding.done():
            await asyncio.shield(self._adding)

    def join(self, timeout: float | None = None) -> bool:
        """See JobTarget."""
        self._thread.join(timeout)
        return not self._thread.is_alive()
