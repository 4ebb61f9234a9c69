"""Files of attempts on AWS Batch: their own containers carry them, what came of it is told here.

Where a job's containers have stored no logs (they never ran, or were lost), what is left of them is
stored from here, so that every job that has ended has its logs and its manifest.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from runner.aws.errors import AwsError
from runner.aws.log_events import LogEvents
from runner.batch.attempt_records import AttemptFacts, AttemptKey, AttemptRecords
from runner.batch.log_address import LogAddress
from runner.core import events as ev
from runner.core.scheduler import Scheduler
from runner.core.states import JobStatus, QueueStatus
from runner.engine.backend import StoreOwnership
from runner.engine.backoff import backoff
from runner.engine.batch.log_copies import copy_logs, copy_stream
from runner.engine.call_threads import CallThreads
from runner.engine.clock import now
from runner.engine.context import EngineContext
from runner.errors import RunnerError
from runner.results.claim import SucceededError
from runner.results.layout import Layout
from runner.results.store import StoreError
from runner.results.upload.job_upload import JobUpload, UploadOutcome, upload_job

JOBS_AT_ONCE = 8

LOOK_AGAIN = 3.0
"""Seconds between two looks for more of a log that somebody follows."""

LOG_SETTLES = 6.0
"""Seconds after its end in which a plain job's log comes to CloudWatch: Docker's log driver sends
lines every 5 s."""

WHOLE = float("inf")

NOT_SAVED = "its containers did not come to storing it"


class BatchFiles:
    """See AttemptFiles."""

    gave_up = False

    def __init__(
        self,
        records: AttemptRecords,
        context: EngineContext,
        scheduler: Scheduler,
        post: Callable[[ev.Event], None],
        ownership: StoreOwnership | None,
    ) -> None:
        self._records = records
        self._context = context
        self._scheduler = scheduler
        self._post = post
        self._ownership = ownership
        self._loop = asyncio.get_running_loop()
        self._threads = CallThreads(JOBS_AT_ONCE, "batch-files")
        self._facts: dict[int, tuple[int, AttemptFacts]] = {}
        self._looked: dict[tuple[int, int], float] = {}
        self._streams: dict[tuple[int, int], LogAddress] = {}
        self._closed = False

    def remember(
        self, job: int, key: AttemptKey, facts: AttemptFacts, log: LogAddress | None
    ) -> None:
        """How an attempt ended; its logs are copied here, to be looked at. ``log``: where they are,
        if nobody has stored them."""
        self._facts[job] = key.attempt, facts
        if log is not None:
            self.in_stream(job, key.attempt, log)
        work = self._loop.run_in_executor(self._threads, self._copy_logs, job, key.attempt)
        work.add_done_callback(lambda done: done.cancelled() or done.exception())

    def in_stream(self, job: int, attempt: int, log: LogAddress) -> None:
        """The log of a plain attempt is in CloudWatch."""
        self._streams[job, attempt] = log

    def _copy_logs(self, job: int, attempt: int) -> bool:
        """Whether all of them are stored as a whole. In any thread. Raises StoreError, OSError."""
        scheduler, logs = self._scheduler, self._context.logs
        job_id, run_id = scheduler.document.jobs[job].job_id, scheduler.queue.run_id
        if (at := self._streams.get((job, attempt))) is not None:
            newest = max(attempt, scheduler.jobs[job].attempt)
            with suppress(AwsError):
                copy_stream(LogEvents(at.region), at, logs, job_id, attempt, newest)
            return False
        whole = copy_logs(
            self._records.store,
            logs,
            job_id,
            run_id,
            attempt,
            lambda: max(attempt, scheduler.jobs[job].attempt),
        )
        if whole:
            self._looked[job, attempt] = WHOLE
        return whole

    def keep_fingerprint(self, job: int) -> None:
        """See AttemptFiles. What a container has found can't be looked at from here."""

    def bring_log(self, job: int, attempt: int) -> None:
        """See AttemptFiles. Of what runs not more often than its containers store more of it."""
        looked, moment = self._looked.get((job, attempt), 0.0), time.monotonic()
        live = self._scheduler.jobs[job].live
        if live is not None and live.attempt == attempt and moment - looked < LOOK_AGAIN:
            return
        if looked != WHOLE:
            self._looked[job, attempt] = moment
            with suppress(StoreError, OSError):
                self._copy_logs(job, attempt)

    def wake(self) -> None:
        """See AttemptFiles."""

    # -- results and logs --------------------------------------------------------------------

    def collect(self, job: int) -> None:
        """See AttemptFiles."""
        if self._ownership is None:
            return
        if (job, self._scheduler.jobs[job].attempt) in self._streams:
            self._loop.call_later(LOG_SETTLES, self._collect, job, 0)
        else:
            self._collect(job, 0)

    def _collect(self, job: int, tries: int) -> None:
        if self._closed or not self._scheduler.jobs[job].collecting:
            return
        attempt = self._scheduler.jobs[job].attempt
        remembered, facts = self._facts.get(job, (0, None))
        known = facts if remembered == attempt else None
        work = self._loop.run_in_executor(self._threads, self._stored, job, attempt, known)

        def done(future: asyncio.Future[UploadOutcome]) -> None:
            if future.cancelled() or self._closed:
                return
            error = future.exception()
            if isinstance(error, SucceededError):
                self._post(ev.ResultsStored(now(), job, False, str(error)))
            elif isinstance(error, StoreError):
                self._loop.call_later(backoff(tries + 1), self._collect, job, tries + 1)
                self._post(ev.ResultsDelayed(now(), job, str(error)))
            elif error is not None:
                told = f"{error}" if isinstance(error, RunnerError | OSError) else f"{error!r}"
                self._post(ev.ResultsStored(now(), job, False, told))
            else:
                self._facts.pop(job, None)
                self._report(job, future.result())

        work.add_done_callback(done)

    def _report(self, job: int, outcome: UploadOutcome) -> None:
        missing = bool(outcome.missing)
        self._post(ev.ResultsStored(now(), job, outcome.ok, outcome.told, missing, outcome.stale))

    def _stored(self, job: int, attempt: int, facts: AttemptFacts | None) -> UploadOutcome:
        """What is stored of a job. Called in a thread. Raises StoreError, RecordError, OSError."""
        run_id = self._scheduler.queue.run_id
        job_id = self._scheduler.document.jobs[job].job_id
        if facts is None:
            token = self._records.newest_token(run_id, job_id, attempt)
            key = AttemptKey(job_id, attempt, token or "")
            facts = self._records.facts(key) if token is not None else AttemptFacts()
        if (stored := facts.stored) is not None:
            told = () if stored.error is None else (stored.error,)
            missing = told if stored.missing else ()
            return UploadOutcome(stored.ok, told, 0, 0, missing=missing, stale=stored.stale)
        return self._store_what_is_left(job, job_id, attempt)

    def _store_what_is_left(self, job: int, job_id: str, attempt: int) -> UploadOutcome:
        """Logs as far as there are any, here, in parts or in CloudWatch, and a manifest.

        Of what has completed there was never more: it is a plain job.
        """
        assert self._ownership is not None
        logs = self._context.logs
        for number in range(1, attempt + 1):
            with suppress(OSError):
                self._copy_logs(job, number)
        return upload_job(
            self._records.store,
            Layout(),
            JobUpload(
                job_id=job_id,
                run_id=self._scheduler.queue.run_id,
                epoch=self._ownership.own(),
                attempt=attempt,
                completed=self._scheduler.jobs[job].status is JobStatus.COMPLETED,
                patterns=(),
                working_directory="/",
                stdout=Path(logs.of_attempt(job_id, attempt, attempt, "stdout")),
                stderr=Path(logs.of_attempt(job_id, attempt, attempt, "stderr")),
                earlier_attempts=tuple(
                    (
                        n,
                        Path(logs.earlier(job_id, n, "stdout")),
                        Path(logs.earlier(job_id, n, "stderr")),
                    )
                    for n in range(1, attempt)
                ),
            ),
        )

    # -- what the containers do by themselves ------------------------------------------------

    def restore_outputs(self, job: int, *, rebooted: bool) -> None:
        """See AttemptFiles. They are in the store, and whoever needs them brings them back."""
        self._post(ev.OutputsChecked(now(), job))

    def fetch_inputs(self, job: int) -> None:
        """See AttemptFiles. The attempt's own container fetches them."""
        self._post(ev.InputsFetched(now(), job, 0.0))

    def save_checkpoint(self, job: int) -> None:
        """See AttemptFiles. The attempt's own container has, if it came to it."""
        _, facts = self._facts.get(job, (0, None))
        stored = facts.stored if facts is not None else None
        if stored is None:
            self._post(ev.CheckpointSaved(now(), job, error=NOT_SAVED))
            return
        files, error = stored.checkpoint_files or 0, stored.checkpoint_error
        self._post(ev.CheckpointSaved(now(), job, files, stored.checkpoint_bytes, error))

    # -- the end -----------------------------------------------------------------------------

    async def finish(self, status: QueueStatus, until: float) -> None:
        """See AttemptFiles."""

    async def let_go(self) -> None:
        """See AttemptFiles."""

    def stop(self) -> None:
        """See AttemptFiles."""
        self._closed = True
        self._threads.stop()

    def join(self) -> None:
        """See AttemptFiles."""
        self._threads.join()
