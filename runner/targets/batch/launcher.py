"""Launches the coordinator of a queue: everything is in the store before Batch is asked.

Owns the order: document, record, Batch. Cut off anywhere, the same command goes on: of two
coordinators the lease lets one drive the queue. It must not know who asks, or what is shown.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from runner.aws.batch import Batch, Document, may_have_happened
from runner.aws.errors import AwsError
from runner.batch.queue_detail import read_environment, read_queue_detail
from runner.core.run_mode import RESUMED, RunMode
from runner.core.states import QUEUE_ENDED
from runner.errors import ConflictError, NotFoundError, StateError, UsageError
from runner.model.document import QueueSpec, dump_document, parse_stored
from runner.results.journal import digest_of
from runner.results.layout import Layout
from runner.results.store import ChangedError, ResultStore
from runner.results.stored_queue import StoredQueue, read_queue
from runner.service.known_elsewhere import ended_elsewhere
from runner.targets.batch.coordinator_job import definition, job_name, submission
from runner.targets.batch.coordinator_options import CoordinatorOptions
from runner.targets.batch.coordinator_state import look_at
from runner.targets.batch.launch_record import (
    BatchLaunch,
    BatchLaunches,
    put_into_index,
    stored_launch,
)
from runner.timestamps import rfc3339_seconds

FOUND_WITHIN = 60.0
"""Seconds in which a job whose submission had no answer has to appear in ListJobs."""

FIND_EVERY = 5.0

CommandOf = Callable[[ResultStore], tuple[Sequence[str], str | None]]
"""Has what a coordinator needs put into the store; its command, and the bundle's address."""


class IdTakenError(ConflictError):
    """Another launch has the id that was made for a queue: the next one is to be tried."""


@dataclass(frozen=True, slots=True)
class JobQueueFacts:
    """What is to be known of the job queue that a coordinator is submitted to."""

    fargate: bool
    fair_share: bool


@dataclass(frozen=True, slots=True)
class QueueInStore:
    """What the store has of a queue: nothing, a run, or only the document of a launch."""

    document: QueueSpec | None
    stored: StoredQueue | None
    launch: BatchLaunch | None

    @property
    def ended(self) -> bool:
        return self.stored is not None and self.stored.status in QUEUE_ENDED


def look_into(store: ResultStore) -> QueueInStore:
    """What is there. Raises StateError for what can't be read, StoreError."""
    layout = Layout()
    raw = store.get_bytes(layout.document_key)
    document = None if raw is None else parse_stored(raw)
    try:
        stored = read_queue(store, layout)
    except NotFoundError:
        stored = None
    return QueueInStore(document, stored, stored_launch(store))


def check_launchable(queue: QueueSpec, store: ResultStore, found: QueueInStore) -> None:
    """See that a launch of this document may go on there.

    Raises EndedElsewhereError, ConflictError where it has another document, or is driven now.
    """
    where = store.describe()
    if found.ended:
        assert found.stored is not None
        raise ended_elsewhere(found.stored, where)
    if found.document is not None and found.document != queue:
        raise ConflictError(f"{where} has a queue of another document: give it another queue_id")
    if found.stored is not None and found.launch is None:
        raise ConflictError(
            f"{where} has an unfinished run of '{found.stored.queue_id}' that is not of AWS Batch"
        )
    check_undriven(found.launch)


def check_undriven(launch: BatchLaunch | None) -> None:
    """Raise ConflictError where a coordinator drives the queue, or is about to. Asks Batch."""
    if launch is None:
        return
    state = look_at(launch, launch.queue_id, ended=False)
    if state.standing:
        who = state.standing.get("worker") or f"waits for {state.standing.get('queued')}"
        raise ConflictError(
            f"queue '{launch.queue_id}' is driven already: {who}\n"
            f"`runner status {launch.store}` shows it"
        )


class CoordinatorLauncher:
    """One launch. All of it blocks; raises AwsError, StoreError."""

    def __init__(
        self,
        options: CoordinatorOptions,
        store: ResultStore,
        launches: BatchLaunches,
        command_of: CommandOf,
        say: Callable[[str], None],
    ) -> None:
        self._options = options
        self._store = store
        self._launches = launches
        self._command_of = command_of
        self._say = say
        self._batch = Batch(options.region)

    def check(self) -> JobQueueFacts:
        """See that the job queue takes jobs. Raises UsageError."""
        options = self._options
        found = self._batch.queue(options.job_queue)
        if found is None:
            raise UsageError(f"there is no job queue {options.job_queue} in {options.region}")
        queue = read_queue_detail(found)
        if queue.state != "ENABLED":
            told = f"the job queue {queue.name} in {options.region} is {queue.state}"
            raise UsageError(f"{told}: it takes no jobs")
        environments = self._batch.environments(queue.environments)
        fargate = any(read_environment(each).fargate for each in environments)
        if fargate and options.execution_role is None:
            raise UsageError(
                f"the job queue {queue.name} is of Fargate, which needs `execution_role` in the "
                "table [batch] of the settings: `runner setup --batch` makes one"
            )
        return JobQueueFacts(fargate, queue.fair_share)

    def launch(
        self,
        queue: QueueSpec,
        facts: JobQueueFacts,
        again: RunMode = RESUMED,
        *,
        new_id: bool = False,
    ) -> BatchLaunch:
        """Submit the coordinator of a queue; what is there is mended so, or begun anew.

        ``new_id``: the queue's id was made for it. Raises IdTakenError if another launch has made
        the same one."""
        digest = None
        if again.mends:
            digest = self._put_corrected(queue)
        elif again.fresh and not new_id:
            self._store.put_bytes(Layout.document_key, dump_document(queue).encode())
        else:
            self._put_document(queue, new_id=new_id)
        command, bundle = self._command_of(self._store)
        request = definition(self._options, command, bundle, fargate=facts.fargate)
        launch = BatchLaunch(
            queue_id=str(queue.queue_id),
            store=self._store.describe(),
            region=self._options.region,
            job_queue=self._options.job_queue,
            launch=os.urandom(8).hex(),
            launched_at=rfc3339_seconds(time.time()),
            options=self._options.plain,
            again=again.word,
            document=digest,
        )
        self._record(launch)
        put_into_index(launch)
        name = self._registered(request)
        job = self._submit(launch, name, facts)
        launch = replace(launch, job=job, definition=name)
        self._record(launch)
        return launch

    def _record(self, launch: BatchLaunch) -> None:
        self._store.put_bytes(Layout.coordinator_key, launch.encoded())
        self._launches.remember(launch)

    def _put_corrected(self, queue: QueueSpec) -> str:
        """Beside the one that the queue has: the coordinator puts it into its place. Its digest."""
        text = dump_document(queue)
        digest = digest_of(text)
        self._store.put_bytes(Layout().corrected_key(digest), text.encode())
        return digest

    def _put_document(self, queue: QueueSpec, *, new_id: bool) -> None:
        """Raises ConflictError where another launch came first with another document."""
        data = dump_document(queue).encode()
        try:
            self._store.swap_bytes(Layout.document_key, data, None)
        except ChangedError:
            if new_id:
                raise IdTakenError(f"{self._store.describe()} has a queue of this id") from None
            raw = self._store.get_bytes(Layout.document_key)
            if raw is None or parse_stored(raw) != queue:
                told = f"{self._store.describe()} has just got another queue's document"
                raise ConflictError(f"{told}: nothing was launched") from None

    def _registered(self, request: Document) -> str:
        """``name:revision`` of the definition of this content, registered if it isn't there."""
        name = str(request["jobDefinitionName"])
        found = self._batch.definition(name)
        return self._batch.register(request) if found is None else f"{name}:{found['revision']}"

    def _submit(self, launch: BatchLaunch, definition: str, facts: JobQueueFacts) -> str:
        name = job_name(launch.queue_id, launch.launch)
        request = submission(
            name, self._options, definition, launch.store, fair_share=facts.fair_share
        )
        try:
            return self._batch.submit(request)
        except AwsError as error:
            if not may_have_happened(error):
                raise
            self._say(f"AWS Batch gave no answer ({error}): looks whether it has the job")
        deadline = time.monotonic() + FOUND_WITHIN
        while time.monotonic() < deadline:
            found = self._batch.named(self._options.job_queue, name)
            if found:
                return str(found[0]["jobId"])
            time.sleep(FIND_EVERY)  # reason: a new job is listed late
        raise StateError(
            f"AWS Batch gave no answer to the submission, and lists no job {name}: the same "
            "command again submits another; of two the lease lets one drive the queue"
        )
