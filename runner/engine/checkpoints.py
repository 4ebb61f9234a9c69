"""What interrupted attempts have saved, on its way to the store before the machine goes.

Owns which uploads are under way or waiting for another try. The next start needs none of it: what
was not stored is on the disk, if there still is one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from threading import Event

from runner.core import events as ev
from runner.core.scheduler import Scheduler
from runner.engine.backend import StoreOwnership
from runner.engine.call_threads import GRACE, CallThreads, patience_with
from runner.engine.clock import now
from runner.engine.context import EngineContext
from runner.results.checkpoint import JobCheckpoint, Saved, save_checkpoint
from runner.results.claim import SucceededError
from runner.results.layout import Layout
from runner.results.store import StoreError

JOBS_AT_ONCE = 4
TRY_AGAIN = 1.0
"""Seconds between two tries: there is no time for more."""


@dataclass(slots=True)
class _Pending:
    withdrawn: Event = field(default_factory=Event)
    timer: asyncio.TimerHandle | None = None
    error: str | None = None


class Checkpoints:
    """The checkpoints of one session. ``post`` takes the events that come of them."""

    def __init__(
        self,
        context: EngineContext,
        scheduler: Scheduler,
        ownership: StoreOwnership,
        post: Callable[[ev.Event], None],
    ) -> None:
        assert context.results is not None
        self._context = context
        self._scheduler = scheduler
        self._ownership = ownership
        self._store = context.results
        self._post = post
        self._loop = asyncio.get_running_loop()
        self._call_threads = CallThreads(JOBS_AT_ONCE, "checkpoints", patience_with(self._store))
        self._jobs: dict[int, _Pending] = {}
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False

    def __contains__(self, job: int) -> bool:
        """Whether the job's files are on their way."""
        return job in self._jobs

    def add(self, job: int) -> None:
        """Store what a job has saved, however often it has to be tried."""
        self._idle.clear()
        pending = self._jobs[job] = _Pending()
        self._start(job, pending)

    def _start(self, job: int, pending: _Pending) -> None:
        pending.timer = None
        document = self._scheduler.document
        described = document.jobs[job]
        spec = JobCheckpoint(
            described.job_id,
            self._scheduler.queue.run_id,
            self._scheduler.jobs[job].attempt,
            described.checkpoint_paths,
            self._context.working_directory(document, described),
            withdrawn=pending.withdrawn,
            rights=self._context.rights,
            own=self._context.own,
            record=self._context.paths.checkpoint_record(described.job_id),
        )
        work = self._loop.run_in_executor(self._call_threads, self._save, spec)
        work.add_done_callback(lambda future: self._ended(job, pending, future))

    def _save(self, spec: JobCheckpoint) -> Saved:
        try:
            spec = replace(spec, epoch=self._ownership.own())
        except SucceededError as error:
            return Saved(problem=str(error), final=True)
        except StoreError as error:
            return Saved(problem=str(error))
        return save_checkpoint(self._store, Layout(), spec)

    def _ended(self, job: int, pending: _Pending, future: asyncio.Future[Saved]) -> None:
        if future.cancelled() or self._closed or self._jobs.get(job) is not pending:
            return
        if (error := future.exception()) is not None:
            saved = Saved(problem=f"{error!r}", final=True)  # a bug: told, and nobody waits
        else:
            saved = future.result()
        pending.error = saved.problem
        if saved.problem is None or saved.final or pending.withdrawn.is_set():
            self._report(job, saved)
        else:
            pending.timer = self._loop.call_later(TRY_AGAIN, self._start, job, pending)

    def _report(self, job: int, saved: Saved) -> None:
        del self._jobs[job]
        if not self._jobs:
            self._idle.set()
        self._post(ev.CheckpointSaved(now(), job, saved.files, saved.bytes, saved.problem))

    async def finish(self, until: float) -> None:
        """Have all of it stored by the loop's time ``until``; what isn't then is not."""
        try:
            await asyncio.wait_for(self._idle.wait(), max(0.0, until - self._loop.time()))
        except TimeoutError:
            self._give_up()
        try:
            await asyncio.wait_for(self._idle.wait(), GRACE)
        except TimeoutError:
            for job, pending in list(self._jobs.items()):
                self._report(job, Saved(problem=pending.error or "there was no time for more"))

    def _give_up(self) -> None:
        for job, pending in list(self._jobs.items()):
            pending.withdrawn.set()
            if pending.timer is not None:
                pending.timer.cancel()
                self._report(job, Saved(problem=pending.error))

    def stop(self) -> None:
        """Begin nothing more, and have what is under way end."""
        self._closed = True
        for pending in self._jobs.values():
            pending.withdrawn.set()
            if pending.timer is not None:
                pending.timer.cancel()
        self._call_threads.stop()

    def join(self) -> None:
        """Wait for what is under way. Blocks; after ``stop``."""
        self._call_threads.join()
