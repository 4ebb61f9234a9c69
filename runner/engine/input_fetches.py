"""Inputs on their way to the jobs that need them, and checkpoints: tried until they are there.

Owns which fetches are under way, waiting for another try or called off, and their threads. What is
fetched, and which errors are definite, is the business of ``results``; what follows, of the core.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from runner.core import events as ev
from runner.core.scheduler import Scheduler
from runner.engine.backoff import backoff
from runner.engine.call_threads import CallThreads
from runner.engine.clock import now
from runner.engine.context import EngineContext
from runner.engine.fingerprints import Fingerprints
from runner.model.elements import split_name
from runner.results.layout import Layout
from runner.results.store import StoreError

if TYPE_CHECKING:
    # Imported where the first job needs its inputs: most queues have none, and it takes a tenth of
    # the start of a `run`.
    from runner.results.checkpoint import BroughtBack, JobCheckpoint
    from runner.results.download.inputs import InputsWanted
    from runner.results.fingerprint.examination import Examined, Subject
    from runner.results.s3.store import S3Store

    _Found = tuple[BroughtBack, Examined | None]

JOBS_AT_ONCE = 2
"""Jobs whose inputs are fetched at once; of each several files are."""


@dataclass(slots=True)
class _Fetch:
    """A job's inputs on their way. ``since``: the loop's time at which work on them began."""

    tries: int = 0
    since: float | None = None
    called_off: threading.Event = field(default_factory=threading.Event)
    timer: asyncio.TimerHandle | None = None
    deadline: asyncio.TimerHandle | None = None

    def check(self) -> None:
        """Raise CalledOff once nobody wants it any more."""
        if self.called_off.is_set():
            from runner.results.download.inputs import CalledOff

            raise CalledOff


class InputFetches:
    """The fetches of one session. ``post`` takes the events that come of them."""

    def __init__(
        self,
        context: EngineContext,
        scheduler: Scheduler,
        post: Callable[[ev.Event], None],
        fingerprints: Fingerprints | None,
    ) -> None:
        self._fingerprints = fingerprints
        self._context = context
        self._scheduler = scheduler
        self._post = post
        self._loop = asyncio.get_running_loop()
        self._call_threads = CallThreads(JOBS_AT_ONCE, "fetching")
        self._stores: dict[str, S3Store] = {}
        self._opening = threading.Lock()
        self._jobs: dict[int, _Fetch] = {}
        self._closed = False

    def add(self, job: int) -> None:
        """Fetch a job's inputs, however often it has to be tried."""
        if self._scheduler.jobs[job].fetching:
            self._call_off(job)  # another fetch, from before the job was asked for anew
            fetch = self._jobs[job] = _Fetch()
            self._start(job, fetch)

    def wake(self) -> None:
        """A step was taken: nobody may want some of the inputs any more."""
        for job in [job for job in self._jobs if not self._scheduler.jobs[job].fetching]:
            self._call_off(job)

    def _start(self, job: int, fetch: _Fetch) -> None:
        fetch.timer = None
        inputs, checkpoint = self._describe(job, fetch), self._checkpoint(job)
        subject: Subject | None = None
        if self._fingerprints is not None and self._scheduler.document.jobs[job].inputs:
            subject = self._fingerprints.subject(job)
        work = self._loop.run_in_executor(
            self._call_threads, self._work, job, fetch, inputs, checkpoint, subject
        )
        work.add_done_callback(lambda future: self._ended(job, fetch, future))

    def _describe(self, job: int, fetch: _Fetch) -> InputsWanted:
        from runner.results.download.inputs import InputsWanted, fill

        document, context = self._scheduler.document, self._context
        described = document.jobs[job]
        job_id, _ = split_name(described.job_id)
        return InputsWanted(
            tuple(fill(path, context.queue_id, job_id) for path in described.input_paths),
            context.working_directory(document, described),
            context.paths.inputs(described.job_id),
            context.disk_reserve,
            fetch.called_off,
            context.rights,
        )

    def _checkpoint(self, job: int) -> JobCheckpoint | None:
        """The checkpoint that its last attempt should have left, if that is in doubt."""
        state, context = self._scheduler.jobs[job], self._context
        if not state.needs_check or context.results is None:
            return None
        from runner.results.checkpoint import JobCheckpoint

        described = self._scheduler.document.jobs[job]
        return JobCheckpoint(
            described.job_id,
            self._scheduler.queue.run_id,
            state.attempt,
            described.checkpoint_paths,
            context.working_directory(self._scheduler.document, described),
            rights=context.rights,
            own=context.own,
        )

    def _work(
        self,
        job: int,
        fetch: _Fetch,
        wanted: InputsWanted,
        checkpoint: JobCheckpoint | None,
        subject: Subject | None,
    ) -> _Found:
        from runner.results.checkpoint import BroughtBack, restore_checkpoint
        from runner.results.download.inputs import fetch_inputs

        self._loop.call_soon_threadsafe(self._begun, job, fetch)
        if wanted.paths:
            fetch_inputs(self._store_of, wanted)
        store, back = self._context.results, BroughtBack()
        if checkpoint is not None and store is not None:
            back = restore_checkpoint(store, Layout(), checkpoint, fetch.check)
        if subject is None or self._fingerprints is None:
            return back, None
        return back, self._fingerprints.examine(job, subject, fetch.tries, fetch.check)

    def _store_of(self, bucket: str) -> S3Store:
        from runner.results.s3.store import S3Store

        with self._opening:
            if bucket not in self._stores:
                # To make a client takes 0.1 s of a processor: a fleet's tasks are many and short.
                own = self._context.results
                found = own.beside(bucket) if isinstance(own, S3Store) else S3Store(bucket)
                self._stores[bucket] = found
            return self._stores[bucket]

    def _begun(self, job: int, fetch: _Fetch) -> None:
        """Its turn has come: from now on it may be the job's time."""
        if fetch.since is not None or self._jobs.get(job) is not fetch:
            return
        fetch.since = self._loop.time()
        described = self._scheduler.document.jobs[job]
        if described.inputs_in_timeout:
            fetch.deadline = self._loop.call_later(described.timeout, self._too_long, job, fetch)

    def _too_long(self, job: int, fetch: _Fetch) -> None:
        if self._jobs.get(job) is fetch:
            timeout = self._scheduler.document.jobs[job].timeout
            self._call_off(job)
            self._post(ev.InputsFetched(now(), job, timeout))

    def _ended(self, job: int, fetch: _Fetch, future: asyncio.Future[_Found]) -> None:
        if future.cancelled() or self._closed or self._jobs.get(job) is not fetch:
            if not future.cancelled():
                future.exception()  # seen: nobody is interested
            return
        from runner.results.checkpoint import BroughtBack
        from runner.results.download.inputs import InputError

        error = future.exception()
        if isinstance(error, StoreError | OSError):
            fetch.tries += 1
            fetch.timer = self._loop.call_later(backoff(fetch.tries), self._start, job, fetch)
            self._post(ev.InputsDelayed(now(), job, str(error)))
            return
        seconds = self._loop.time() - fetch.since if fetch.since is not None else 0.0
        told = str(error) if error is not None else None
        if error is not None and not isinstance(error, InputError):
            told = f"input: {error!r}"  # a bug: better told than waited for
        found, examined = future.result() if error is None else (BroughtBack(), None)
        self._call_off(job)
        event = ev.InputsFetched(now(), job, seconds, told, found.files, found.lost)
        if examined is not None:
            event = replace(event, why=examined.why, results=examined.restored)
            if (former := examined.unchanged) is not None:
                names = f"{former.run_id}/{former.attempt}", former.origin
                event = replace(event, unchanged=names)
        self._post(event)

    def _call_off(self, job: int) -> None:
        fetch = self._jobs.pop(job, None)
        if fetch is None:
            return
        fetch.called_off.set()
        for timer in (fetch.timer, fetch.deadline):
            if timer is not None:
                timer.cancel()

    async def finish(self) -> None:
        """End what is under way, the next session goes on with it; a read may hang for a minute."""
        self._call_off_all()
        await self._loop.run_in_executor(None, self._call_threads.shutdown)

    def _call_off_all(self) -> None:
        self._closed = True
        for job in list(self._jobs):
            self._call_off(job)

    def stop(self) -> None:
        """Call off what is under way."""
        self._call_off_all()
        self._call_threads.stop()

    def join(self) -> None:
        """Give back threads and connections. Blocks; after ``stop``."""
        for store in self._stores.values():
            store.close()
        self._call_threads.join()
