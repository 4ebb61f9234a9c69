"""Attempts on AWS Batch that are asked to end: their reason on record first, then TerminateJob.

Owns what becomes of a start that is made void: its job is ended before that is told, also one whose
submission is under way just then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner.batch.names import is_of_run
from runner.batch.records import Writer
from runner.core.scheduler import Scheduler
from runner.engine.batch.attempts import BatchAttempt
from runner.engine.batch.calls import BatchCalls
from runner.engine.batch.place import BatchPlace

if TYPE_CHECKING:
    from runner.engine.batch.backend import BatchBackend

TERMINATE_AGAIN = 30.0
"""Seconds between two calls of TerminateJob for one job: Batch's own SIGKILL comes after 30."""


class BatchStops:
    """Of one session. ``backend`` tells what came of them. All is called on the session's loop."""

    def __init__(
        self, backend: BatchBackend, calls: BatchCalls, place: BatchPlace, scheduler: Scheduler
    ) -> None:
        self._backend = backend
        self._loop = calls.loop
        self._place = place
        self._scheduler = scheduler

    def stop(self, attempt: BatchAttempt, kill: bool) -> None:
        """Have its job ended. Batch knows one way: SIGTERM, and SIGKILL when its time is up."""
        moment = self._loop.time()
        again = attempt.asked is not None
        if again and (not kill or moment - (attempt.asked or 0.0) < TERMINATE_AGAIN):
            return
        attempt.asked = moment
        live = self._scheduler.jobs[attempt.job].live
        stop = live.stop if live is not None else None
        attempt.reason = attempt.reason or (stop.value if stop is not None else "ended")
        attempt.withdrawn.set()
        if attempt.plain:
            self.end_plain(attempt, attempt.reason)
        else:
            self._ask_end(attempt, attempt.reason)

    def end_plain(self, attempt: BatchAttempt, reason: str) -> None:
        """Have the job ended of an attempt that keeps no records, once it is known: how it ended is
        told by its end."""
        if (job_id := attempt.batch_job) is not None:
            self._backend.insist(
                attempt, lambda: self._place.batch.terminate(job_id, reason), lambda _: None
            )

    def _ask_end(self, attempt: BatchAttempt, reason: str) -> None:
        batch, records = self._place.batch, self._place.records

        def ask() -> bool:
            """Whether its start is void now."""
            claim = records.void(attempt.key, reason)
            if claim.by is Writer.DRIVER:
                return True
            if records.put_end(attempt.key, reason).by is Writer.DRIVER:
                claimed = claim.batch_job_id or str(attempt.batch_job)
                # A command could have written the claim of any job: whose it is, Batch knows.
                if claimed == attempt.batch_job or self._is_ours(claimed):
                    batch.terminate(claimed, reason)
            return False

        def asked(void: bool) -> None:
            attempt.void = void
            # What is being submitted just now would be nobody's if it were let go of.
            if void and not attempt.unanswered:
                self.end_void(attempt)

        self._backend.insist(attempt, ask, asked)

    def _is_ours(self, job_id: str) -> bool:
        detail = self._place.batch.describe([job_id]).get(job_id)
        return detail is not None and is_of_run(self._scheduler.queue.run_id, detail)

    def end_void(self, attempt: BatchAttempt) -> None:
        """Have the job go that will find no claim to take: it may wait for hours, and be paid for
        when it begins."""
        job_id, why = attempt.batch_job, attempt.reason or "its start was withdrawn"
        if job_id is None:
            self._backend.voided(attempt, None)
            return
        self._backend.insist(
            attempt,
            lambda: self._place.batch.terminate(job_id, why),
            lambda _: self._backend.voided(attempt, None),
        )
