"""AWS Batch as the place of a foreground run's attempts: opened before its session, and closed.

Owns how many jobs run there at once, and which store the place works with: one of its own, for a
session closes the one that it was given.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from runner.batch.definitions import Commands
from runner.batch.document_check import BatchFacts, check_for_batch, notes
from runner.core.scheduler import Scheduler
from runner.engine.batch.backend import backend_of
from runner.engine.batch.intents import BatchDefaults
from runner.engine.batch.place import BatchPlace, of_job_queue
from runner.engine.context import MakeBackend
from runner.errors import UsageError
from runner.model.document import FIT, QueueSpec
from runner.model.settings import Settings
from runner.results.store import ResultStore
from runner.results.stores import is_s3
from runner.service.result_stores import StoreRequest, opened
from runner.service.session import RunContext

UNLIMITED = 1_000_000
"""Jobs at once where the document says "fit", or the flag: Batch itself waits for room."""


@dataclass(frozen=True, slots=True)
class BatchRunOptions:
    """What ``run --target batch`` was asked for. ``max_parallel`` None: as the document says;
    ``detach``: a signal leaves its jobs in Batch; ``every``: seconds between two looks at a job."""

    target: BatchDefaults
    commands: Callable[[ResultStore], Commands]
    max_parallel: int | None = None
    detach: bool = False
    every: float | None = None


class BatchRun:
    """The place of one foreground run. Its methods block. ``say`` is given words for people; to be
    set by its host."""

    def __init__(self, options: BatchRunOptions, settings: Settings) -> None:
        self.options = options
        self.say: Callable[[str], None] = lambda text: None
        self._settings = settings
        self._places: list[BatchPlace] = []
        self._target: BatchDefaults | None = None

    def store(self, document: QueueSpec, want: StoreRequest) -> StoreRequest:
        """The queue's store: the one that is wanted, else the settings' bucket. Blocks.

        Raises DocumentError for all that AWS Batch can't do of the document, UsageError for a
        store elsewhere or a job queue that takes no jobs, AwsError.
        """
        bucket = self._settings.batch.bucket
        if want.where is None and bucket is not None:
            where = bucket if is_s3(bucket) else f"s3://{bucket}"
            prefix = document.result_s3_prefix or f"queues/{document.queue_id}"
            want = StoreRequest(f"{where.removesuffix('/')}/{prefix}")
        check_for_batch(document, self._facts(want))
        if want.where is not None and not is_s3(want.where):
            raise UsageError(
                f"{want.where} is a folder: on AWS Batch jobs hand on their files through S3, as "
                "s3://bucket/prefix"
            )
        known = self._target = of_job_queue(self.options.target)
        facts = replace(self._facts(want), fargate=known.fargate, fair_share=known.fair_share)
        check_for_batch(document, facts)
        return want

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
        every = {} if self.options.every is None else {"every": self.options.every}
        if self.options.every is not None and self.options.every < 0.5:
            every["looks_per_second"] = 1 / self.options.every
        target = self._target or of_job_queue(self.options.target)
        place = BatchPlace(target, store, self.options.commands, self.say, **every)
        self._places.append(place)
        place.prepare(run_id)
        return backend_of(place)

    def close(self) -> None:
        """Give back what was opened."""
        for place in self._places:
            place.close()


def parallel_of(word: str) -> int:
    """Of ``--max-parallel``: a number, or ``fit``. Raises UsageError."""
    if word == FIT:
        return UNLIMITED
    if not word.isascii() or not word.isdecimal() or not 1 <= int(word) <= UNLIMITED:
        raise UsageError(f"--max-parallel: must be a number from 1 to {UNLIMITED:,}, or fit")
    return int(word)
