"""The target ``batch``: a queue of this package's engine whose attempts are jobs of AWS Batch.

The engine has the order of things: the intent is stored before SubmitJob, one poller looks at all
jobs, and a session goes on from where a killed one was. Owns what is beside it: calls are stored in
S3 before their jobs are in the queue, and results are here before their ends are told.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

from runner.api.batch_definition import capabilities_of
from runner.api.batch_files import BatchJobFiles
from runner.api.batch_jobs import LARGEST_ARRAY, BatchManner, array_of, batch_job_of
from runner.api.batch_options import SETTINGS
from runner.api.capabilities import Capabilities
from runner.api.executor_place import ExecutorPlace
from runner.api.job_target import JobEnd, JobListener
from runner.api.local_jobs import names_of
from runner.api.session_target import SessionTarget
from runner.api.shared_regions import SharedRegion
from runner.api.tasks import CommandTask, FunctionTask, Task
from runner.api.worker_archive import code_archive, worker_archive
from runner.aws.batch import Batch
from runner.aws.clients import region_of
from runner.batch.attempt_records import AttemptKey, AttemptRecords
from runner.batch.definitions import Commands
from runner.batch.document_check import FARGATE_LIFE, BatchFacts, refused
from runner.batch.records import Writer
from runner.core.states import StopReason
from runner.engine.backoff import backoff
from runner.engine.batch.place import of_job_queue
from runner.errors import StateError
from runner.model.document import JobSpec, QueueSpec
from runner.model.durations import LONGEST
from runner.results.store import RefusedError, ResultStore, StoreError
from runner.service.attempt_place import check_place
from runner.service.batch_place import BatchRun, BatchRunOptions
from runner.service.batch_placement import UNLIMITED, noted_run
from runner.service.batch_queues import BatchRequest, check_same_place, placement, target_of
from runner.service.result_stores import StoreRequest, opened, prepared
from runner.service.session import RunContext
from runner.targets.batch.container_commands import bundle_in, commands_with

_log = logging.getLogger("runner.executor")

TRANSFERS = 16
"""Calls and results that are carried at once."""

TOLD_AFTER = 3
"""Tries of a transfer that fail without a word."""

RESULTS_KEY = "results"
"""The key of ``meta`` under which a queue's store is remembered."""


class BatchJobTarget(SessionTarget):
    """See JobTarget. ``options`` are checked: see ``batch_options``.

    Raises ValueError where an option is missing, UsageError for a job queue that takes no jobs or a
    bucket that can't be written to, AwsError, LockedError, ConflictError.
    """

    largest_array = LARGEST_ARRAY

    def __init__(
        self, place: ExecutorPlace, options: Mapping[str, Any], listener: JobListener
    ) -> None:
        given = {name: options[name] for name in SETTINGS if name in options}
        batch = replace(place.settings.batch, **given)
        settings = replace(place.settings, batch=batch)
        for name in ("job_queue", "bucket"):
            if getattr(batch, name) is None:
                raise ValueError(
                    f'{name}: is missing: target "batch" needs one, here or in the table [batch] '
                    "of the settings"
                )
        name, most = "batch", options.get("max_workers", UNLIMITED)
        super().__init__(
            settings, f"{place.queue_id}-{name}", listener, name=name, max_parallel=most
        )
        self.region = region_of(batch.region)
        self._batch_settings = batch
        self._durable = place.durable
        self._options = options
        self._archives = (worker_archive(), *map(code_archive, map(Path, place.code)))
        self._threads = ThreadPoolExecutor(TRANSFERS, "runner-transfers")
        self._let_go = threading.Event()
        self._order: deque[str] = deque()
        self._sent: set[str] = set()
        self._placement = placement(BatchRequest(region=self.region), batch)
        self._defaults = target_of(self._placement, batch)
        self._facts = BatchFacts(True, batch.image, batch.shared)
        self._definitions: dict[str, Capabilities] = {}
        self._manner: BatchManner
        self._store: ResultStore | None = None
        self._place: BatchRun | None = None
        self._region: SharedRegion | None = None
        self.open()

    # -- for the session ---------------------------------------------------------------------

    def _enter(self) -> RunContext:
        self._defaults = of_job_queue(self._defaults)
        fargate = self._defaults.fargate
        self._facts = replace(self._facts, fargate=fargate, fair_share=self._defaults.fair_share)
        entry = self._repository.find(self.queue_id)
        kept = entry.meta.get(RESULTS_KEY)
        if kept:
            check_same_place(entry, self._placement)
        check_place(entry, on_batch=True)
        want = StoreRequest(kept or self._new_store(), named=True)
        every, events = self._options.get("every"), self._batch_settings.events
        shared = self._region = SharedRegion(self.region or "", _say, every, events)
        run = self._place = BatchRun(self._run_options(), self._settings, shared.region)
        run.say = _say
        assert entry.queue is not None and want.where is not None
        self._manner = BatchManner(
            want.where,
            tuple(each.name for each in self._archives),
            self._options.get("staging"),
            self._options.get("share"),
            FARGATE_LIFE if fargate else LONGEST,
        )
        results = prepared(want, self._settings, _say)
        notes = {**noted_run(run), RESULTS_KEY: want.where}
        self._repository.note(self.queue_id, notes)
        store = self._store = opened(want, self._settings)
        assert store is not None
        self._files = BatchJobFiles(
            self._payloads,
            self._repository.log_paths(self.queue_id),
            store,
            entry.queue.run_id,
            self._archives,
            durable=self._durable,
        )
        context = RunContext({}, None, results=results)
        return run.placed(context, want, entry.queue.run_id)

    def _new_store(self) -> str:
        bucket = str(self._batch_settings.bucket).removeprefix("s3://").strip("/")
        return f"s3://{bucket}/queues/{self.queue_id}-{uuid4().hex[:12]}"

    def _run_options(self) -> BatchRunOptions:
        bundle = self._batch_settings.bundle

        def commands(store: ResultStore) -> Commands:
            return commands_with(bundle_in(store.describe(), bundle, _say))

        every = self._options.get("every")
        return BatchRunOptions(self._defaults, commands, self._max_parallel, True, every, bundle)

    def _left(self, *, over: bool) -> None:
        if not over:
            self._let_go.set()
        self._threads.shutdown(wait=True, cancel_futures=not over)
        if self._place is not None:
            self._place.close()
        if self._region is not None:
            self._region.close()
        if self._store is not None:
            if over and not self._durable:
                self._files_there.clear()
            self._store.close()

    def _job(self, task: Task) -> JobSpec:
        whole = replace(task, capabilities=self._whole(task.capabilities))
        return batch_job_of(whole, self._manner)

    def _whole(self, capabilities: Capabilities) -> Capabilities:
        """These, with what the job definition says that they name; it is asked for once. Blocks.

        Raises ValueError, AwsError.
        """
        name = capabilities.job_definition
        if name is None:
            return capabilities
        if (said := self._definitions.get(name)) is None:
            found = Batch(self.region).definition(name)
            if found is None:
                raise ValueError(f'"job_definition": there is no {name} in {self.region}')
            own = self._defaults
            roles = {"jobRoleArn": own.job_role, "executionRoleArn": own.execution_role}
            said = self._definitions[name] = capabilities_of(name, found, roles)
        return replace(capabilities.over(said), job_definition=None)

    def refusal(self, capabilities: Capabilities, *, function: bool) -> str | None:
        """See JobTarget."""
        if capabilities.region not in (None, self.region):
            return f'"region": target "{self.name}" is in {self.region}, not {capabilities.region}'
        try:
            wanted = self._whole(capabilities)
        except ValueError as error:
            return str(error)
        probe = batch_job_of(CommandTask("x", "", "true", capabilities=wanted), self._manner)
        queue = QueueSpec("x", "x", (probe,), LONGEST, "continue")
        faults = refused(queue, self._facts)
        if not faults:
            return None
        place, _, told = faults[0].removeprefix("jobs[0].").partition(": ")
        return f'"{place.rpartition(".")[2]}": {told}'

    def away(self, capabilities: Capabilities, *, function: bool) -> str | None:
        """See JobTarget."""
        assert self._region is not None
        return self._region.region.health.away()

    # -- what waits in Batch ---------------------------------------------------------------

    def _begun(self, number: int) -> bool:
        live = self._session.scheduler.jobs[number].live
        return live is None or live.since is not None

    async def _withdraw(self, numbers: Sequence[int]) -> tuple[int, ...]:
        """See SessionTarget. Whose an attempt is, is decided in S3: what we have claimed no
        container begins, whatever becomes of this process. While Batch is away nothing is taken
        back: a submission may be in doubt."""
        assert self._region is not None
        if self._region.region.health.away() is not None:
            return ()
        waiting = [each for each in numbers if not self._begun(each)]
        loop, ours = asyncio.get_running_loop(), Writer.DRIVER
        claims = await asyncio.gather(
            *(loop.run_in_executor(self._threads, self._claim, each) for each in waiting)
        )
        return tuple(at for at, by in zip(waiting, claims, strict=True) if by is ours)

    def _claim(self, number: int) -> Writer | None:
        """Whose the attempt is; None: that can't be known now."""
        scheduler = self._session.scheduler
        live = scheduler.jobs[number].live
        if live is None or self._store is None:
            return None
        key = AttemptKey(scheduler.document.jobs[number].job_id, live.attempt, live.token)
        with suppress(StoreError):
            return AttemptRecords(self._store).void(key, StopReason.CANCELLED.value).by
        return None

    # -- calls on their way ------------------------------------------------------------------

    def add(self, task: Task) -> None:
        """See JobTarget."""
        self._followed.add(task.id)
        job = self._job(task)
        self._send(job, () if isinstance(task, CommandTask) else names_of(job))

    def add_array(self, name: str, tasks: Sequence[FunctionTask]) -> None:
        """See ArrayTarget."""
        self._followed.update(task.id for task in tasks)
        whole = self._whole(tasks[0].capabilities)
        first = replace(tasks[0], capabilities=whole)
        job = array_of(name, first, len(tasks), self._manner)
        self._send(job, names_of(job))

    def _send(self, job: JobSpec, calls: Sequence[str]) -> None:
        self._coming[job.job_id] = job
        self._order.append(job.job_id)
        left = [len(calls)]

        def sent() -> None:
            left[0] -= 1
            if left[0] == 0 and job.job_id in self._coming:
                self._sent.add(job.job_id)
                self._admit()

        def failed(error: Exception) -> None:
            if self._coming.pop(job.job_id, None) is not None:
                self._refuse(job, error)
                self._admit()

        if not calls:
            self._sent.add(job.job_id)
            if not self._calls.soon(self._admit):
                del self._coming[job.job_id]
                self._refuse(job, StateError("the executor's queue has ended"))
        for name in calls:
            self._carry(
                partial(self._files_there.send, name),
                lambda: self._calls.soon(sent),
                lambda error: self._calls.soon(partial(failed, error)),
                lambda: job.job_id in self._coming,
            )

    def _admit(self) -> None:
        """Take what has been sent in the order of submission. On the loop."""
        while self._order:
            job = self._coming.get(self._order[0])
            if job is not None and job.job_id not in self._sent:
                break
            self._sent.discard(self._order.popleft())
            if job is not None:
                del self._coming[job.job_id]
                self._incoming.append(job)
        self._flush()
        self._arrived.set()

    def _carry(
        self,
        work: Callable[[], None],
        done: Callable[[], object],
        failed: Callable[[Exception], object],
        wanted: Callable[[], bool] = lambda: True,
    ) -> None:
        """Do it in a thread, again while the store is away; then one of both is called there."""

        def carry() -> None:
            tries = 0
            while wanted():
                try:
                    work()
                except StoreError as error:
                    tries += 1
                    if self._region is not None:
                        self._region.region.health.silent(error)
                    if isinstance(error, RefusedError):
                        failed(error)
                        return
                    if tries == TOLD_AFTER:
                        _say(f"{error}; it is tried again")
                    if self._let_go.wait(backoff(tries)):
                        return
                except Exception as error:
                    failed(error)
                    return
                else:
                    done()
                    return

        with suppress(RuntimeError):  # let go: nothing is on its way any more
            self._threads.submit(carry)

    # -- results on their way ----------------------------------------------------------------

    def _deliver(self, end: JobEnd, number: int) -> None:
        files, bring_log = self._files_there, self._session.engine.files.bring_log

        def bring() -> None:
            files.fetch(end)
            if not (end.function and files.has_result(end)):
                bring_log(number, end.attempt)

        def failed(error: Exception) -> None:
            _say(f"job '{end.job_id}': what it has left can't be fetched: {error}")
            self._listener.ended(end)

        self._carry(bring, lambda: self._listener.ended(end), failed)

    @property
    def _files_there(self) -> BatchJobFiles:
        assert isinstance(self._files, BatchJobFiles)
        return self._files

    def logs(self, job_id: str, stream: str) -> str:
        """See JobControl."""

        async def newest() -> tuple[int, int] | None:
            number = self._number(job_id)
            if number is None:
                return None
            return number, self._session.scheduler.jobs[number].attempt

        found = self._calls.ask(newest, None)
        if found is not None:
            self._session.engine.files.bring_log(*found)
        return super().logs(job_id, stream)

    def forget(self, end: JobEnd) -> None:
        """See JobTarget."""
        super().forget(end)
        if end.function:
            with suppress(RuntimeError):
                self._threads.submit(self._files_there.withdraw, end.job_id)


def _say(text: str) -> None:
    _log.warning("%s", text)
