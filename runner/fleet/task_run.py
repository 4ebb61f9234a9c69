"""One run of one task by the engine that runs every queue: its own state folder, its own session.

Timeouts, process trees, retries within the run, inputs, results, logs and checkpoints are the
engine's. Owns what the end of that queue means for the task.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from runner.core import events as ev
from runner.core.states import JobStatus, QueueStatus
from runner.engine.recorded_attempts import end_every_attempt
from runner.errors import DiskError, RecordError, RunnerError, UsageError
from runner.fleet.manifests import ManifestSource
from runner.fleet.protocol import TaskEnd, TaskEndKind
from runner.fleet.records import FleetJob, FleetTask, Metrics
from runner.fleet.task_document import (
    config_file,
    document_of,
    environment_of,
    kept_folder,
    manifest_file,
    metrics_file,
)
from runner.fleet.task_outcome import KEY as OUTCOME
from runner.fleet.task_outcome import outcome_of
from runner.fleet.task_rows import parse_metrics
from runner.model.document import QueueSpec
from runner.model.settings import Settings
from runner.process.forker_client import ForkerHolder
from runner.results.store import ResultStore, StoreError
from runner.service import resume_from_store
from runner.service.queue_repository import QueueRepository
from runner.service.session import RunContext, Session

LARGEST_METRICS = 1 << 20
"""Bytes of a task's file of metrics."""


_OWN_ENDS = (QueueStatus.COMPLETED, QueueStatus.FAILED)
"""Nobody has ended it before its time."""


KEPT_KEY = "kept"
"""Below this, in the store of its run, is what a task kept."""


class WorkerUnableError(RunnerError):
    """This machine can't run a task, and mostly not the next one either. The worker ends; its task
    is another's when its lease is over."""


@dataclass(frozen=True, slots=True)
class TaskPlace:
    """Where tasks run, one after the other. ``folder``: their state, one folder each; ``environ``:
    the worker's own; ``forkers``: what their processes are started by."""

    folder: Path
    settings: Settings
    environ: Mapping[str, str]
    model: str | None = None
    manifests: ManifestSource | None = None
    forkers: ForkerHolder = field(default_factory=ForkerHolder)


class TaskRun:
    """``run`` blocks; ``kill`` and ``interrupt`` may be called from any thread, at any time."""

    def __init__(
        self,
        job: FleetJob,
        task: FleetTask,
        place: TaskPlace,
        say: Callable[[str], None],
    ) -> None:
        self._job = job
        self._task = task
        self._place = place
        self._say = say
        self._folder = place.folder / f"{task.id}-{task.epoch}"
        self._session: Session | None = None
        self._lost: str | None = None
        self._interrupted: str | None = None
        self._hurry = False
        self._outcome: dict[str, Any] | None = None

    # -- from any thread ---------------------------------------------------------------------

    def kill(self, reason: str) -> None:
        """Kill its tree at once: the task is held no more, and nothing of this run counts."""
        self._lost = self._lost or reason
        self._tell()

    def interrupt(self, reason: str) -> None:
        """End it in an orderly way; it is given back, to be gone on with. Again: kill it now."""
        self._hurry = self._interrupted is not None
        self._interrupted = self._interrupted or reason
        self._tell()

    def _tell(self) -> None:
        session, lost, interrupted = self._session, self._lost, self._interrupted
        if session is None:
            return
        if lost is not None:
            session.tell(lambda now: ev.InterruptRequested(now, lost, 0.0, taken_over=True))
            session.tell(ev.KillRequested)
        elif interrupted is not None:
            session.tell(lambda now: ev.InterruptRequested(now, interrupted))
            if self._hurry:
                session.tell(ev.KillRequested)

    # -- in the worker's ---------------------------------------------------------------------

    def run(self, store: ResultStore, manifest: bytes | None = None) -> TaskEnd:
        """Run it to its end. Raises WorkerUnableError, and nothing that concerns the task alone.

        ``store``: of this run alone, in one that the worker has tried.
        """
        began = time.monotonic()
        try:
            document = document_of(self._job, self._task)
        except UsageError as error:
            return TaskEnd(TaskEndKind.INVALID, str(error))
        try:
            self._folder.mkdir(parents=True)
            config_file(self._folder).write_text(self._job.config)
            if self._job.options.keeps_outcomes:
                kept_folder(self._folder).mkdir()
            if manifest is not None:
                manifest_file(self._folder).write_bytes(manifest)
            end = asyncio.run(self._work(document, store))
        except (RunnerError, OSError) as error:
            # A disk that is full, a store that denies: it says nothing against the task.
            raise WorkerUnableError(f"this worker can't run {self._task.key}: {error}") from error
        if self._lost is not None:
            return TaskEnd(TaskEndKind.LOST, self._lost)
        duration = (time.monotonic() - began) * 1000.0
        try:
            metrics = self._metrics(duration)
        except RecordError as error:
            metrics = Metrics(duration_ms=duration)
            if end.kind is TaskEndKind.SUCCEEDED:
                end = TaskEnd(TaskEndKind.FAILED, str(error))
        if self._outcome is not None:
            metrics = replace(metrics, more={**metrics.more, OUTCOME: self._outcome})
        return replace(end, metrics=metrics)

    def clean_up(self) -> None:
        """Remove what it leaves here: all of it that counts is in the store."""
        shutil.rmtree(self._folder, ignore_errors=True)

    async def _work(self, document: QueueSpec, store: ResultStore) -> TaskEnd:
        assert document.queue_id is not None
        queue_id, folder = document.queue_id, self._folder
        settings = replace(
            self._place.settings,
            state_dir=folder / "state",
            log_dir=folder / "logs",
            run_dir=folder / "run",
        )
        environment = environment_of(
            self._job, self._task, folder, self._place.environ, self._place.model
        )
        context = RunContext(environment, None, results=store, forkers=self._place.forkers)
        # After a power cut nothing here is looked at: the task begins anew, or from its store.
        repository = QueueRepository(settings.state_dir, settings.log_dir, durable=False)
        repository.create(document, "run", anonymous=False)
        if self._task.run != self._task.epoch:
            entry = repository.find(queue_id)
            with suppress(StoreError):  # it begins anew then, in the same folder
                found = resume_from_store.find(repository, entry, store, self._say)
                if found is not None:
                    resume_from_store.take_over(repository, entry, found, store)
        records = repository.queue_paths(queue_id).shim_records
        self._place.forkers.lay_out(self._place.folder / "attempts", records)
        session = Session(repository, settings, queue_id, context, None, document)
        try:
            self._session = session
            self._tell()
            status = await session.run()
            end = _end_of(session, status)
            if self._job.options.keeps_outcomes and status in _OWN_ENDS:
                end = await self._keep_outcome(session, end, store)
            if end.kind is TaskEndKind.FAILED and session.engine.exit_incomplete:
                await asyncio.to_thread(self._check, store)
            return end
        finally:
            self._session = None
            session.close()

    async def _keep_outcome(self, session: Session, end: TaskEnd, store: ResultStore) -> TaskEnd:
        """Whatever it is, the task has come to it: it is done, if all of it could be stored."""
        try:
            await asyncio.to_thread(self._store_kept, store)
        except StoreError as error:
            return TaskEnd(TaskEndKind.FAILED, str(error))
        self._outcome = outcome_of(self._task.run, session.scheduler.jobs)
        if session.engine.exit_incomplete:
            return end
        return replace(end, kind=TaskEndKind.SUCCEEDED)

    def _store_kept(self, store: ResultStore) -> None:
        for path in kept_folder(self._folder).iterdir():
            store.put_bytes(f"{KEPT_KEY}/{path.name}", path.read_bytes(), durable=True)

    def _check(self, store: ResultStore) -> None:
        """Raise UsageError where it is the store that can't be written to."""
        with suppress(StoreError):
            store.prepare()

    def _metrics(self, duration_ms: float) -> Metrics:
        """What the task has written. Raises RecordError."""
        path = metrics_file(self._folder)
        try:
            with open(path, "rb") as file:
                raw = file.read(LARGEST_METRICS + 1)
        except FileNotFoundError:
            return Metrics(duration_ms=duration_ms)
        except OSError as error:
            raise RecordError(f"RUNNER_TASK_METRICS: {error.strerror}") from None
        if len(raw) > LARGEST_METRICS:
            raise RecordError(f"RUNNER_TASK_METRICS: has more than {LARGEST_METRICS:,} bytes")
        return parse_metrics(raw, "RUNNER_TASK_METRICS", duration_ms)


def _end_of(session: Session, status: QueueStatus) -> TaskEnd:
    """What the end of its queue means for a task."""
    scheduler, incomplete = session.scheduler, session.engine.exit_incomplete
    why = scheduler.queue.reason or status.value
    match status:
        case QueueStatus.COMPLETED if incomplete:
            errors = (state.result_error for state in scheduler.jobs if state.result_error)
            return TaskEnd(TaskEndKind.FAILED, next(errors, "not all of its results were stored"))
        case QueueStatus.COMPLETED:
            return TaskEnd(TaskEndKind.SUCCEEDED)
        case QueueStatus.INTERRUPTED:
            return TaskEnd(TaskEndKind.INTERRUPTED, why, resumable=not incomplete)
        case QueueStatus.FAILED:
            for name, state in zip(session.names, scheduler.jobs, strict=False):
                if state.status is JobStatus.FAILED:
                    told = state.error_message or state.reason or "failed"
                    return TaskEnd(
                        TaskEndKind.FAILED,
                        f"{name}: {told}",
                        exit_code=state.exit_code,
                        signalled=state.signal is not None and not state.timed_out,
                    )
            return TaskEnd(TaskEndKind.FAILED, why)
        case _:
            return TaskEnd(TaskEndKind.FAILED, why)


def end_orphans(folder: Path) -> int:
    """End what a worker that was killed has left running in its folder, and remove it.

    Returns how many trees lived. The caller holds the folder's lock.
    """
    lived = 0
    for task in folder.glob("[0-9]*-[0-9]*"):
        for attempts in task.glob("state/queues/*/attempts"):
            with suppress(OSError, DiskError, RecordError):
                lived += end_every_attempt(attempts, None, None)
        shutil.rmtree(task, ignore_errors=True)
    return lived
