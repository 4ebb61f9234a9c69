"""Jobs' files on their way to the store: no slot held, tried again until they are there.

Owns which uploads are under way or waiting for another try, and when copies are made because one
takes too long for those who wait for it. What an upload consists of is the business of
``results``; what its end means, of the core.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from runner.core import events as ev
from runner.core.scheduler import Scheduler
from runner.core.states import QUEUE_ENDED, JobStatus, QueueStatus
from runner.engine.backend import StoreOwnership
from runner.engine.backoff import backoff
from runner.engine.call_threads import GRACE, CallThreads, patience_with
from runner.engine.checkpoints import Checkpoints
from runner.engine.clock import now
from runner.engine.context import EngineContext
from runner.engine.live_logs import LiveLogs
from runner.engine.output_restores import OutputRestores
from runner.engine.spool import Spool
from runner.model.durations import format_duration
from runner.results.claim import SucceededError
from runner.results.layout import Layout
from runner.results.store import StoreError
from runner.results.upload.job_upload import JobUpload, UploadOutcome, upload_job
from runner.results.upload.progress import Progress

JOBS_AT_ONCE = 4
"""Jobs whose files are uploaded at once, where files may go up in parallel at all."""

SOON = 0.05
"""Seconds between two looks for progress, at least."""

LOGS_TIME = 8.0
"""Seconds of an orderly interruption's last ones that checkpoints leave to the logs."""


@dataclass(slots=True)
class _Pending:
    """A job whose files aren't stored yet. ``withdrawn`` ends the try that is under way.

    ``spooled``: from now on they are taken from copies; its record says so a step later.
    ``tries``: those without progress since the last that made some.
    """

    progress: Progress
    tries: int = 0
    withdrawn: threading.Event = field(default_factory=threading.Event)
    running: bool = False
    begun: float = 0.0
    timer: asyncio.TimerHandle | None = None
    spool_timer: asyncio.TimerHandle | None = None
    spooled: bool = False


class Uploads:
    """The uploads of one session. ``post`` takes the events that come of them."""

    def __init__(
        self,
        context: EngineContext,
        scheduler: Scheduler,
        post: Callable[[ev.Event], None],
        ownership: StoreOwnership,
    ) -> None:
        assert context.results is not None
        self._ownership = ownership
        self.checkpoints = Checkpoints(context, scheduler, ownership, post)
        self._loop = asyncio.get_running_loop()
        self._context = context
        self._scheduler = scheduler
        self._post = post
        self._layout = Layout()
        self._store = context.results
        self._spool = Spool(context)
        self._jobs: dict[int, _Pending] = {}
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False
        self._given_up = ""
        self._last: asyncio.TimerHandle | None = None
        workers = 1 if self._store.parallel == 1 else JOBS_AT_ONCE
        self._call_threads = CallThreads(workers, "uploads", patience_with(self._store))
        self.restoring = OutputRestores(
            context, scheduler, post, self._call_threads, (self._spool.store, self._store)
        )
        self._copiers = ThreadPoolExecutor(1, thread_name_prefix="spool")
        self._live: LiveLogs | None = None
        if self._store.local_folder is None:
            self._live = LiveLogs(context, scheduler, ownership.own)
        spooled = {
            scheduler.document.jobs[index].job_id
            for index, state in enumerate(scheduler.jobs)
            if state.spooled
        }
        self._loop.run_in_executor(self._copiers, self._spool.remove_all_but, spooled)

    # -- one job's files ---------------------------------------------------------------------

    def add(self, job: int) -> None:
        """Store a job's files as its record stands now, however often it has to be tried."""
        spooled = self._scheduler.jobs[job].spooled
        pending = self._jobs.setdefault(job, _Pending(Progress(self._loop.time), spooled=spooled))
        self._idle.clear()
        if not pending.running and pending.timer is None:
            self._start(job, pending)
        if pending.spool_timer is None and self._is_waited_for(job):
            wait = self._context.upload_wait
            pending.spool_timer = self._loop.call_later(wait, self._begin_spooling, job, pending)

    def _start(self, job: int, pending: _Pending) -> None:
        pending.timer = None
        pending.running = True
        pending.begun = self._loop.time()
        pending.withdrawn = threading.Event()
        spec = self._describe(job, pending)
        work = self._loop.run_in_executor(self._call_threads, self._upload, spec)
        work.add_done_callback(lambda future: self._ended(job, pending, future))

    def _ended(self, job: int, pending: _Pending, future: asyncio.Future[UploadOutcome]) -> None:
        pending.running = False
        if future.cancelled() or self._closed or self._jobs.get(job) is not pending:
            return
        outcome = _outcome(future)
        error = outcome.told
        if outcome.ok:
            if pending.spooled:
                self._remove_spool(job)
            self._report(job, pending, outcome, error)
        elif self._given_up and pending.withdrawn.is_set():
            # We have cut it off: why it had not come to its end was told before, if at all.
            why = self._scheduler.jobs[job].result_error or self._given_up
            self._report(job, pending, None, why)
        elif self._given_up or outcome.final:
            self._report(job, pending, None, error)
        elif pending.withdrawn.is_set():
            self._start(job, pending)  # from the copies
        else:
            took = self._loop.time() - pending.begun
            progressed = pending.progress.seconds_without() < took
            pending.tries = 1 if progressed else pending.tries + 1
            delay = backoff(pending.tries)
            pending.timer = self._loop.call_later(delay, self._start, job, pending)
            self._post(ev.ResultsDelayed(now(), job, error))

    def _report(
        self, job: int, pending: _Pending, stored: UploadOutcome | None, error: str | None
    ) -> None:
        """An upload is done, or given up where nothing is ``stored``."""
        for timer in (pending.timer, pending.spool_timer):
            if timer is not None:
                timer.cancel()
        del self._jobs[job]
        if not self._jobs:
            self._idle.set()
        if stored is None:
            self._post(ev.ResultsStored(now(), job, False, error))
            return
        self._post(ev.ResultsStored(now(), job, True, error, bool(stored.missing), stored.stale))

    def _upload(self, spec: JobUpload) -> UploadOutcome:
        try:
            epoch = self._ownership.own()
            if self._live is not None:
                self._live.leave_to_upload(spec.job_id, spec.attempt)
        except SucceededError as error:
            return UploadOutcome(False, (str(error),), 0, 0, final=True)
        except StoreError as error:
            return UploadOutcome(False, (str(error),), 0, 0)
        return upload_job(self._store, self._layout, spec.of_epoch(epoch))

    def _describe(self, job: int, pending: _Pending) -> JobUpload:
        described = self._scheduler.document.jobs[job]
        state = self._scheduler.jobs[job]
        logs, name = self._context.logs, described.job_id
        stdout, stderr = (
            Path(logs.of_attempt(name, state.attempt, state.attempt, stream))
            for stream in ("stdout", "stderr")
        )
        return JobUpload(
            job_id=name,
            run_id=self._scheduler.queue.run_id,
            epoch=0,
            attempt=state.attempt,
            completed=state.status is JobStatus.COMPLETED,
            patterns=tuple(result.path for result in described.kept_paths),
            results=len(described.result_paths),
            working_directory=self._context.working_directory(self._scheduler.document, described),
            stdout=stdout,
            stderr=stderr,
            earlier_attempts=tuple(
                (n, Path(logs.earlier(name, n, "stdout")), Path(logs.earlier(name, n, "stderr")))
                for n in range(1, state.attempt)
            ),
            durable=bool(described.kept_paths),
            logs_final=not described.keep_background,
            spool=self._spool.store if pending.spooled else None,
            withdrawn=pending.withdrawn,
            rights=self._context.rights,
            progress=pending.progress,
            record=self._context.paths.upload_record(name),
            longest_name=self._layout.longest_name(name, self._store.key_bytes),
            optional=described.optional_paths,
            checked=frozenset(described.fresh_paths("check")),
            own=self._context.own,
            ended_at=state.completed_at,
            # What was taken over is older than the job, and is what it is.
            first_start=state.first_start if state.taken_from is None else None,
            logs=state.attempt > 0,
            former=_former(state.taken_from),
        )

    def wake(self) -> None:
        """A step was taken: something may run whose log is worth a look."""
        self.last_ones(self._scheduler.only_uploads_left)
        if self._live is not None:
            self._live.wake()

    # -- copies for those who can't wait -----------------------------------------------------

    def _is_waited_for(self, job: int) -> bool:
        scheduler = self._scheduler
        state = scheduler.jobs[job]
        if state.status is not JobStatus.COMPLETED or state.spooled:
            return False
        if not scheduler.document.jobs[job].kept_paths:
            return False
        return scheduler.is_waited_for(job)

    def _begin_spooling(self, job: int, pending: _Pending) -> None:
        pending.spool_timer = None
        if self._jobs.get(job) is not pending or not self._is_waited_for(job):
            return
        spec = self._describe(job, pending)
        work = self._loop.run_in_executor(self._copiers, self._spool.copy, spec)
        work.add_done_callback(lambda future: self._spooled(job, pending, future))

    def _spooled(self, job: int, pending: _Pending, future: asyncio.Future[str | None]) -> None:
        if future.cancelled() or self._closed:
            return
        if self._jobs.get(job) is not pending:
            self._remove_spool(job)  # it was stored meanwhile
            return
        bug = future.exception()
        trouble = _as_trouble(bug) if bug is not None else future.result()
        if trouble is not None:
            wait = self._context.upload_wait
            pending.spool_timer = self._loop.call_later(wait, self._begin_spooling, job, pending)
            self._post(ev.ResultsDelayed(now(), job, f"not copied aside: {trouble}"))
            return
        # Before anybody may write to the originals: nothing that is read from now on is stored.
        pending.spooled = True
        pending.withdrawn.set()
        self._post(ev.ResultsDelayed(now(), job, None, spooled=True))

    def _remove_spool(self, job: int) -> None:
        name = self._scheduler.document.jobs[job].job_id
        self._loop.run_in_executor(self._copiers, self._spool.remove, name)

    # -- the end -----------------------------------------------------------------------------

    def last_ones(self, only: bool) -> None:
        """Whether nothing but uploads is left: then they may be so long without progress."""
        if only and self._last is None and not self._closed:
            timeout = self._context.upload_timeout
            self._last = self._loop.call_later(timeout, self._look_for_progress, self._loop.time())
        elif not only and self._last is not None:
            self._last.cancel()
            self._last = None

    def _look_for_progress(self, since: float) -> None:
        """Give up if none of the uploads has come further for long; ``since``: loop's time."""
        timeout = self._context.upload_timeout
        waited = self._loop.time() - since
        without = min((p.progress.seconds_without() for p in self._jobs.values()), default=0.0)
        if min(waited, without) >= timeout:
            self.give_up(f"it made no progress for {format_duration(timeout)}")
            return
        left = timeout - min(waited, without)
        self._last = self._loop.call_later(max(left, SOON), self._look_for_progress, since)

    def give_up(self, why: str) -> None:
        """No more tries: what isn't stored is reported so, what is under way is ended."""
        self._given_up = why
        self.restoring.give_up()
        for job, pending in list(self._jobs.items()):
            if pending.running:
                pending.withdrawn.set()
            else:
                error = self._scheduler.jobs[job].result_error or why
                self._report(job, pending, None, error)
        if self._store.local_folder is None:
            self._loop.call_later(GRACE, self._abandon)

    def _abandon(self) -> None:
        """A call that hangs in a network that is away holds nobody's end up."""
        if self._closed:
            return
        for job, pending in list(self._jobs.items()):
            why = self._scheduler.jobs[job].result_error or self._given_up
            self._report(job, pending, None, why)

    @property
    def gave_up(self) -> bool:
        """Whether nothing came further for so long that uploads were left for later."""
        return bool(self._given_up)

    async def finish(self, status: QueueStatus, until: float) -> None:
        """At the end of a session: an orderly interruption's last logs have a little time."""
        if status in QUEUE_ENDED and not self._given_up:
            await self._ownership.discard_unfinished(self._call_threads)
        if status is not QueueStatus.INTERRUPTED:
            return
        jobs = self._scheduler.jobs
        interrupted = [i for i, job in enumerate(jobs) if job.status is JobStatus.INTERRUPTED]
        # Two uploads of one job at once would take each other's for a killed one's.
        later = [index for index in interrupted if index in self.checkpoints]
        for index in sorted(set(interrupted) - set(later)):
            self.add(index)
        await self.checkpoints.finish(until - LOGS_TIME)
        for index in later:
            self.add(index)
        try:
            await asyncio.wait_for(self._idle.wait(), until - self._loop.time())
        except TimeoutError:
            self.give_up("it was interrupted")

    def stop(self) -> None:
        """Begin nothing more, and have what is under way end."""
        self._closed = True
        self.restoring.stop()
        self.checkpoints.stop()
        if self._live is not None:
            self._live.close()
        for pending in self._jobs.values():
            pending.withdrawn.set()
            for timer in (pending.timer, pending.spool_timer):
                if timer is not None:
                    timer.cancel()
        if self._last is not None:
            self._last.cancel()
        self._call_threads.stop()
        self._copiers.shutdown(wait=False, cancel_futures=True)

    def join(self) -> None:
        """Wait for what is under way. Blocks; after ``stop``."""
        self.checkpoints.join()
        self._call_threads.join()
        self._copiers.shutdown(wait=True)


def _outcome(future: asyncio.Future[UploadOutcome]) -> UploadOutcome:
    """How a try ended. What it raises (no thread, no memory, a bug) is told, and it is one more."""
    if (error := future.exception()) is not None:
        return UploadOutcome(False, (_as_trouble(error),), 0, 0)
    return future.result()


def _as_trouble(error: BaseException) -> str:
    return f"internal error: {type(error).__name__}: {error}"


def _former(taken_from: str | None) -> tuple[str, int] | None:
    run, _, attempt = (taken_from or "").rpartition("/")
    return (run, int(attempt)) if run else None
