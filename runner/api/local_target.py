"""The target ``local``: a queue of this package's engine, in a thread of the calling process.

Owns that thread, its loop and the session on it. Everything else calls from other threads and is
brought to the loop. Jobs are taken in batches: what arrives while a step is being stored is in the
next one.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

from runner.api.capabilities import Capabilities
from runner.api.job_files import JobFiles
from runner.api.job_target import CommandOutput, JobEnd, JobListener
from runner.api.local_jobs import end_of, job_of
from runner.api.payload import PickledPayload
from runner.api.tasks import PayloadReference, Task
from runner.core import events as ev
from runner.core.scheduler import StoryEntry
from runner.core.states import ENDED, WAITING, JobStatus
from runner.errors import DocumentError, NotFoundError, StateError
from runner.model.document import JobSpec
from runner.model.messages import quoted
from runner.model.settings import Settings
from runner.service.environment import callers, given
from runner.service.open_queue import open_queue
from runner.service.queue_repository import QueueRepository
from runner.service.session import RunContext, Session

_T = TypeVar("_T")


class LocalTarget:
    """See JobTarget. Raises LockedError if another process works on the queue, and what opening a
    queue raises.

    ``durable``: its files outlive the process and a power cut; else they are in a folder that goes
    with the executor.
    """

    region: str | None = None

    def __init__(
        self,
        settings: Settings,
        queue_id: str,
        listener: JobListener,
        *,
        name: str = "local",
        max_workers: int,
        durable: bool,
    ) -> None:
        self.name = name
        self.queue_id = queue_id
        self._settings = settings
        self._listener = listener
        self._max_workers = max_workers
        self._repository = QueueRepository(settings.state_dir, settings.log_dir)
        self._payloads = self._repository.queue_paths(queue_id).payloads
        logs = self._repository.log_paths(queue_id)
        work_dir = os.getcwd()
        self._files = JobFiles(self._payloads, logs, work_dir, durable=durable)
        self._context = RunContext(callers(given(os.environ)), work_dir, max_parallel=max_workers)
        self._incoming: deque[JobSpec] = deque()
        self._adding: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._followed: set[str] = set()
        self._session: Session
        self._loop: asyncio.AbstractEventLoop
        ready: Future[int] = Future()
        self._thread = threading.Thread(
            target=self._run, args=(ready,), name=f"runner-{name}", daemon=True
        )
        self._thread.start()
        self._first = ready.result()

    # -- the thread --------------------------------------------------------------------------

    def _run(self, ready: Future[int]) -> None:
        try:
            asyncio.run(self._work(ready))
        except BaseException as error:
            if ready.done():
                self._listener.failed(error)
            else:
                ready.set_exception(error)

    async def _work(self, ready: Future[int]) -> None:
        repository = self._repository
        lock = repository.lock(self.queue_id, f"an Executor (pid {os.getpid()})")
        try:
            open_queue(repository, self.queue_id, self._max_workers)
            self._payloads.mkdir(mode=0o700, exist_ok=True)
            self._loop = asyncio.get_running_loop()
            session = self._session = Session(
                repository, self._settings, self.queue_id, self._context, self._on_story
            )
            try:
                repository.set_current(self.queue_id)
                working = session.run(lambda now: ev.IntakeChanged(now, accepts=True))
                ready.set_result(len(session.names))
                await working
            finally:
                session.close()
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
            self._listener.ended(self._end(job_id, number))
        elif status is JobStatus.RUNNING:
            self._listener.started(job_id)

    def _end(self, job_id: str, number: int) -> JobEnd:
        scheduler = self._session.scheduler
        return end_of(job_id, scheduler.document.jobs[number], scheduler.jobs[number])

    def _number(self, job_id: str) -> int | None:
        """The job's, on the loop; None: it isn't in the queue, or not yet."""
        return self._session.scheduler.graph.index.get(job_id)

    def _soon(self, call: Callable[[], object]) -> bool:
        """Have it called on the loop; False if that has ended."""
        try:
            self._loop.call_soon_threadsafe(call)
        except RuntimeError:
            return False
        return True

    def _keep(self, task: asyncio.Task[None]) -> None:
        """The loop itself holds tasks weakly."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _ask(self, call: Callable[[], Coroutine[Any, Any, _T]], otherwise: _T) -> _T:
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

    # -- jobs --------------------------------------------------------------------------------

    def refusal(self, capabilities: Capabilities, *, function: bool) -> str | None:
        """See JobTarget."""
        for name in ("queue", "job_definition", "region"):
            if getattr(capabilities, name) is not None:
                return f'"{name}" is of AWS Batch, and target "{self.name}" is this machine'
        if capabilities.image:
            return f'"image": target "{self.name}" runs no containers'
        cpus = capabilities.cpus
        if cpus is not None and cpus > max(1, os.cpu_count() or 1):
            return f'"cpus": {cpus:g}, and this machine has {os.cpu_count()}'
        return None

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
        self._incoming.append(job_of(task))
        if not self._soon(self._flush):
            self._followed.discard(task.id)
            self._listener.refused(task.id, StateError("the executor's queue has ended"))

    def _flush(self) -> None:
        if self._incoming and (self._adding is None or self._adding.done()):
            self._adding = asyncio.ensure_future(self._add())

    async def _add(self) -> None:
        while self._incoming:
            jobs = list(self._incoming)
            self._incoming.clear()
            try:
                await self._session.add_jobs(jobs)
            except DocumentError as error:
                if len(jobs) == 1:
                    self._followed.discard(jobs[0].job_id)
                    self._listener.refused(jobs[0].job_id, ValueError(str(error)))
                    continue
                for job in jobs:  # one at a time, so that one alone is refused
                    await self._add_one(job)
            except Exception as error:
                for job in jobs:
                    self._followed.discard(job.job_id)
                    self._listener.refused(job.job_id, error)

    async def _add_one(self, job: JobSpec) -> None:
        try:
            await self._session.add_jobs([job])
        except Exception as error:
            self._followed.discard(job.job_id)
            told = ValueError(str(error)) if isinstance(error, DocumentError) else error
            self._listener.refused(job.job_id, told)

    def follow(self, job_id: str) -> None:
        """See JobTarget."""

        async def look() -> bool:
            number = self._number(job_id)
            if number is None:
                return False
            self._followed.add(job_id)
            self._tell(job_id, number, self._session.scheduler.jobs[number].status)
            return True

        if not self._ask(look, False):
            raise NotFoundError(f"there is no job {quoted(job_id)} in queue '{self.queue_id}'")

    def cancel(self, job_id: str) -> bool:
        """See JobControl."""

        async def cancel() -> bool:
            for job in list(self._incoming):
                if job.job_id == job_id:
                    self._incoming.remove(job)
                    self._followed.discard(job_id)
                    self._listener.ended(JobEnd(job_id, JobStatus.CANCELLED.value))
                    return True
            await self._all_added()
            number = self._number(job_id)
            if number is None:
                return False
            await self._session.request(
                lambda now: ev.CancelRequested(now, (number,), waiting_only=True)
            )
            return self._session.scheduler.jobs[number].status is JobStatus.CANCELLED

        return self._ask(cancel, False)

    def cancel_waiting(self) -> None:
        """See JobTarget."""

        async def cancel() -> None:
            for job in self._incoming:
                self._followed.discard(job.job_id)
                self._listener.ended(JobEnd(job.job_id, JobStatus.CANCELLED.value))
            self._incoming.clear()
            await self._all_added()
            states = self._session.scheduler.jobs
            waiting = tuple(
                number
                for job_id in self._followed
                if (number := self._number(job_id)) is not None and states[number].status in WAITING
            )
            if waiting:
                await self._session.request(
                    lambda now: ev.CancelRequested(now, waiting, waiting_only=True)
                )

        self._ask(cancel, None)

    def terminate(self, job_id: str) -> None:
        """See JobControl."""

        def end() -> None:
            number = self._number(job_id)
            if number is not None:
                self._session.tell(lambda now: ev.CancelRequested(now, (number,)))

        self._soon(end)

    def terminate_all(self) -> None:
        """See JobTarget."""

        def end() -> None:
            jobs = tuple(self._number(job_id) for job_id in self._followed)
            known = tuple(number for number in jobs if number is not None)
            self._session.tell(lambda now: ev.CancelRequested(now, known))

        self._soon(end)

    def status(self, job_id: str) -> str:
        """See JobControl."""

        async def look() -> str:
            number = self._number(job_id)
            if number is None:
                return JobStatus.PENDING.value
            return self._session.scheduler.jobs[number].status.value

        return self._ask(look, "unknown")

    def region_of(self, job_id: str) -> str | None:
        """See JobControl."""
        return self.region

    # -- files -------------------------------------------------------------------------------

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

        self._soon(lambda: self._keep(asyncio.ensure_future(close())))

    def detach(self) -> None:
        """See JobTarget. What was submitted is durable first."""

        async def detach() -> None:
            await self._all_added()
            self._session.detach()

        self._soon(lambda: self._keep(asyncio.ensure_future(detach())))

    async def _all_added(self) -> None:
        while self._adding is not None and not self._adding.done():
            await asyncio.shield(self._adding)

    def join(self, timeout: float | None = None) -> bool:
        """See JobTarget."""
        self._thread.join(timeout)
        return not self._thread.is_alive()
