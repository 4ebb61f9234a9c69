"""AWS Batch as the place of a queue's attempts: opened before its session, and closed.

Owns how many jobs run there at once, and which store the place works with: one of its own, for a
session closes the one that it was given.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from runner.batch.definitions import Commands
from runner.batch.document_check import BatchFacts, check_for_batch, notes
from runner.batch.job_detail import ENDED
from runner.batch.names import job_prefix
from runner.core.scheduler import Scheduler
from runner.engine.batch.backend import backend_of
from runner.engine.batch.intents import BatchDefaults
from runner.engine.batch.place import BatchPlace, of_job_queue
from runner.engine.batch.region import BatchRegion
from runner.engine.context import MakeBackend
from runner.errors import StateError, UsageError
from runner.model.document import FIT, QueueSpec
from runner.model.settings import Settings
from runner.results.store import ResultStore
from runner.results.stores import is_s3
from runner.service.batch_placement import UNLIMITED
from runner.service.result_stores import StoreRequest, opened, wanted
from runner.service.session import RunContext

END_WITHIN = 300.0
LOOK_AGAIN = 2.0
"""Seconds in which jobs that are ended have to be gone, and between two looks."""


@dataclass(frozen=True, slots=True)
class BatchRunOptions:
    """How a queue is to run there. ``max_parallel`` None: as the document says; ``detach``: a
    signal leaves its jobs in Batch; ``every``: seconds between two looks at a job; ``bundle``: as
    it was given, to be remembered."""

    target: BatchDefaults
    commands: Callable[[ResultStore], Commands]
    max_parallel: int | None = None
    detach: bool = False
    every: float | None = None
    bundle: str | None = None


class BatchRun:
    """The place of one queue's session. Its methods block. ``say`` is given words for people; to be
    set by its host. ``region``: one that others use, too; None: one of its own."""

    def __init__(
        self, options: BatchRunOptions, settings: Settings, region: BatchRegion | None = None
    ) -> None:
        self.options = options
        self.say: Callable[[str], None] = lambda text: None
        self._settings = settings
        self._places: list[BatchPlace] = []
        self._shared = region
        self._own: BatchRegion | None = None
        self._target: BatchDefaults | None = None

    def store(self, document: QueueSpec, want: StoreRequest) -> StoreRequest:
        """The queue's store: the one that is wanted, else the settings' bucket. Blocks.

        Raises what ``check`` does.
        """
        bucket = self._settings.batch.bucket
        if want.where is None and bucket is not None:
            want = StoreRequest(str(wanted(in_bucket(document, bucket)).where))
        self.check(document, want)
        return want

    def check(self, document: QueueSpec, want: StoreRequest) -> None:
        """Raise DocumentError for all that AWS Batch can't do of the document, UsageError for a
        store elsewhere or a job queue that takes no jobs, AwsError. Blocks."""
        check_for_batch(document, self._facts(want))
        if want.where is not None and not is_s3(want.where):
            raise UsageError(
                f"{want.where} is a folder: on AWS Batch jobs hand on their files through S3, as "
                "s3://bucket/prefix"
            )
        known = self._target = of_job_queue(self.options.target)
        facts = replace(self._facts(want), fargate=known.fargate, fair_share=known.fair_share)
        check_for_batch(document, facts)

    def _facts(self, want: StoreRequest) -> BatchFacts:
        target = self.options.target
        return BatchFacts(want.where is not None, target.image, target.shared)

    def notes(self, document: QueueSpec) -> list[str]:
        """What is worth a word before it begins."""
        if self.options.max_parallel is not None:
            # What would be said of one by one isn't so then.
            document = replace(document, max_parallel_jobs=self.options.max_parallel)
        return notes(document, self._facts(StoreRequest(document.result_s3_bucket)))

    def detaching(self, scheduler: Scheduler) -> str:
        """What is said to a person when the run lets go of its jobs."""
        count = len(scheduler.live)
        left = f"{count} job{'s' * (count != 1)} on AWS Batch" if count else "nothing runs now: it"
        verb = "go" if count > 1 else "goes"
        return f"{left} {verb} on; nothing new starts until the same command goes on with the queue"

    def placed(self, context: RunContext, want: StoreRequest, run_id: str) -> RunContext:
        """The same context, for attempts of this run on Batch.

        Raises UsageError, AwsError, StoreError.
        """
        return replace(
            context,
            backend=self._backend(want, run_id),
            fit=UNLIMITED,
            max_parallel=self.options.max_parallel,
            journal=True,
            heartbeat=context.heartbeat or self._settings.heartbeat,
        )

    def _backend(self, want: StoreRequest, run_id: str) -> MakeBackend:
        store = opened(want, self._settings)
        assert store is not None
        target = self._target or of_job_queue(self.options.target)
        place = BatchPlace(target, store, self.options.commands, self.say, self._region())
        self._places.append(place)
        place.prepare(run_id)
        return backend_of(place)

    def end_jobs(self, run_id: str, document: QueueSpec, why: str) -> int:
        """End all jobs of a run, and return once they have ended; how many there were. Blocks.

        Raises StateError where they don't end, AwsError.
        """
        batch, target = self._region().batch, self.options.target
        own = {document.placed(job).batch for job in document.jobs}
        names = {target.job_queue, *(each.queue for each in own if each and each.queue)}
        ended: set[str] = set()
        deadline = time.monotonic() + END_WITHIN
        while True:
            live = [
                str(job["jobId"])
                for name in sorted(names)
                for job in batch.named(name, job_prefix(run_id))
                if job.get("status") not in ENDED
            ]
            if not live:
                return len(ended)
            for job_id in set(live) - ended:
                batch.terminate(job_id, why)
                ended.add(job_id)
            if time.monotonic() >= deadline:
                raise StateError(f"{len(live)} jobs of the run {run_id} do not end on AWS Batch")
            time.sleep(LOOK_AGAIN)  # reason: Batch tells of no end

    def _region(self) -> BatchRegion:
        if self._shared is not None:
            return self._shared
        if self._own is None:
            events = self._settings.batch.events
            self._own = region_of(self.options.target.region, self.say, self.options.every, events)
        return self._own

    def close(self) -> None:
        """Give back what was opened."""
        if self._own is not None:
            self._own.close()
        for place in self._places:
            place.close()


def region_of(
    name: str | None,
    say: Callable[[str], None],
    every: float | None = None,
    events: str | None = None,
) -> BatchRegion:
    """A region, whose jobs are looked at ``every`` so many seconds; None: at the usual pace."""
    if every is None:
        return BatchRegion(name, say, events=events)
    if every < 0.5:
        return BatchRegion(name, say, every=every, looks_per_second=1 / every, events=events)
    return BatchRegion(name, say, every=every, events=events)


def in_bucket(queue: QueueSpec, place: str) -> QueueSpec:
    """The queue, with its results below ``place`` (a bucket, or s3://bucket/prefix) where it names
    no bucket: whoever reads the document that is stored has to find them."""
    if queue.result_s3_bucket is not None:
        return queue
    bucket, _, before = place.removeprefix("s3://").strip("/").partition("/")
    own = queue.result_s3_prefix or f"queues/{queue.queue_id}"
    prefix = f"{before}/{own}" if before else own
    return replace(queue, result_s3_bucket=bucket, result_s3_prefix=prefix)


def parallel_of(word: str) -> int:
    """Of ``--max-parallel``: a number, or ``fit``. Raises UsageError."""
    if word == FIT:
        return UNLIMITED
    if not word.isascii() or not word.isdecimal() or not 1 <= int(word) <= UNLIMITED:
        raise UsageError(f"--max-parallel: must be a number from 1 to {UNLIMITED:,}, or fit")
    return int(word)
