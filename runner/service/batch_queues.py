"""The queues of a state folder whose attempts run on AWS Batch, and where there.

Owns what a daemon's sessions there share: each region once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from runner.aws.errors import AwsError, ErrorKind
from runner.batch.definitions import Commands
from runner.engine.batch.intents import BatchDefaults
from runner.engine.batch.region import BatchRegion
from runner.errors import ConflictError, RecordError, UsageError
from runner.model.batch_settings import BatchSettings
from runner.model.document import QueueSpec
from runner.model.records import read
from runner.model.settings import Settings
from runner.results.store import ResultStore
from runner.results.stores import is_s3
from runner.service.batch_place import (
    BatchRun,
    BatchRunOptions,
    in_bucket,
    parallel_of,
    region_of,
)
from runner.service.batch_placement import IN_IMAGE, BatchPlacement, placed_on_batch
from runner.service.queue_entry import QueueEntry
from runner.service.queue_repository import QueueRepository
from runner.service.result_stores import wanted
from runner.service.session import RunContext

MakeCommands = Callable[[str | None, ResultStore], Commands]
"""What the containers of a queue run, with runner from this bundle (None: the usual one); blocks,
for it may be built and stored first."""

NO_COMMANDS = Commands([], [], [], [])
"""Of a session that starts nothing."""


@dataclass(frozen=True, slots=True)
class BatchRequest:
    """What a submit asks for; what isn't given is the settings'. ``max_parallel``: or ``fit``."""

    job_queue: str | None = None
    region: str | None = None
    image: str | None = None
    bundle: str | None = None
    max_parallel: str | None = None


def read_request(value: Any) -> BatchRequest:
    """The ``batch`` of a submit. Raises UsageError."""
    try:
        return read(BatchRequest, value, '"batch"', strict=True)
    except RecordError as error:
        raise UsageError(str(error)) from None


def placement(given: BatchRequest, settings: BatchSettings) -> BatchPlacement:
    """Where a queue is to run. Raises UsageError where no job queue is named."""
    queue = given.job_queue or settings.job_queue
    if not queue:
        raise UsageError(
            "no job queue of AWS Batch is named: --job-queue Q, or `job_queue` in the table "
            "[batch] of the settings"
        )
    return BatchPlacement(
        queue,
        given.region or settings.region,
        given.image or settings.image,
        given.bundle or settings.bundle,
        None if given.max_parallel is None else parallel_of(given.max_parallel),
    )


def check_same_place(entry: QueueEntry, given: BatchPlacement | None) -> None:
    """Raise ConflictError where a queue that is there would go elsewhere: its attempts are found
    again only where they were started."""
    kept = placed_on_batch(entry)
    here = (kept and kept.job_queue, kept and kept.region)
    if here == (given and given.job_queue, given and given.region):
        return
    was = "on this machine" if kept is None else f"on AWS Batch, {kept.where}"
    asked = "without --target batch" if kept is None else "with --target batch, as it was then"
    raise ConflictError(
        f"queue '{entry.name}' was submitted to run {was}: submit it {asked}, or anew by --fresh"
    )


def target_of(place: BatchPlacement, settings: BatchSettings) -> BatchDefaults:
    """The same with what the settings say of all queues."""
    plain = BatchDefaults(place.job_queue)
    return BatchDefaults(
        place.job_queue,
        region=place.region,
        image=place.image,
        agent_image=settings.agent_image or plain.agent_image,
        job_role=settings.job_role,
        execution_role=settings.execution_role,
        shared=settings.shared,
    )


class BatchQueues:
    """What the hosts of queues need of AWS Batch. All may be called in any thread.

    ``commands`` None: nothing is started, only what was is looked at. ``say`` takes words for
    people; ``every``: see BatchRunOptions.
    """

    def __init__(
        self,
        settings: Settings,
        commands: MakeCommands | None,
        say: Callable[[str], None],
        every: float | None = None,
    ) -> None:
        self._settings = settings
        self._commands = commands
        self._say = say
        self._every = every
        self._regions: dict[str | None, BatchRegion] = {}
        self._lock = threading.Lock()

    def wanted(self, given: BatchRequest) -> BatchPlacement:
        """Where a submitted queue runs. Raises UsageError."""
        if self._commands is None:
            raise UsageError("queues on AWS Batch are submitted to a daemon")
        if given.bundle is not None and given.bundle != IN_IMAGE and not is_s3(given.bundle):
            # The daemon may read files that whoever submits may not.
            raise UsageError(
                f"--bundle: a daemon takes no file: {IN_IMAGE}, an address (s3://…#sha256), or "
                "`bundle` in its own settings"
            )
        return placement(given, self._settings.batch)

    def stored_in(self, queue: QueueSpec) -> QueueSpec:
        """The document, which has its id, with a bucket."""
        bucket = self._settings.batch.bucket
        return queue if bucket is None else in_bucket(queue, bucket)

    def check(self, document: QueueSpec, place: BatchPlacement) -> list[str]:
        """What is worth a word of how it runs there. Blocks.

        Raises DocumentError for what AWS Batch can't do, UsageError for a job queue that takes no
        jobs, AwsError; not for AWS that is away, which is told.
        """
        run = self.run_of(place)
        told = run.notes(document)
        try:
            run.check(document, wanted(document))
        except AwsError as error:
            if error.kind is not ErrorKind.PASSING:
                raise
            told.append(f"{error}: it isn't known whether {place.where} is there")
        return told

    def run_of(self, place: BatchPlacement) -> BatchRun:
        """The place of a session; to be closed."""
        make, bundle = self._commands, place.bundle

        def commands(store: ResultStore) -> Commands:
            return NO_COMMANDS if make is None else make(bundle, store)

        target = target_of(place, self._settings.batch)
        options = BatchRunOptions(
            target, commands, place.max_parallel, every=self._every, bundle=bundle
        )
        run = BatchRun(options, self._settings, self._region(place.region))
        run.say = self._say
        return run

    @contextmanager
    def resting(
        self, repository: QueueRepository, entry: QueueEntry, context: RunContext
    ) -> Iterator[RunContext]:
        """The context for who changes a queue that no session works on. Blocks.

        On AWS Batch what runs there is found, and nothing is started. Raises UsageError, AwsError.
        """
        place = placed_on_batch(entry)
        if place is None or entry.queue is None:
            yield context
            return
        run = self.run_of(place)
        run.options = replace(run.options, commands=lambda store: NO_COMMANDS)
        try:
            document = repository.stored_document(entry.name)
            want = wanted(document, entry.meta.get("results"))
            placed = run.placed(context, want, entry.queue.run_id)
            yield replace(placed, results=None, journal=False)
        finally:
            run.close()

    def _region(self, name: str | None) -> BatchRegion:
        with self._lock:
            if (found := self._regions.get(name)) is None:
                # Of several regions each needs a queue of its own: the settings name one.
                own = name in (None, self._settings.batch.region)
                events = self._settings.batch.events if own and self._commands else None
                found = region_of(name, self._say, self._every, events)
                self._regions[name] = found
            return found

    def close(self) -> None:
        """Ask AWS nothing more."""
        for region in self._regions.values():
            region.close()
