"""A worker: takes one task after the other, runs it, and says how it ended.

Owns the order of the steps: claim, look for the marker, run, marker, row, message. A worker may be
killed between any two of them: what is then half done, the next holder of the task completes or
does again, and the marker decides which run counts.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TypeVar, assert_never

from runner.errors import RecordError, UsageError
from runner.fleet.connection import DatabaseAwayError
from runner.fleet.database import FleetDatabase
from runner.fleet.lease_keeper import LeaseKeeper
from runner.fleet.manifests import MissingManifestError, VolumeManifest, key_of
from runner.fleet.protocol import (
    FAILED_IN_A_ROW,
    RetryLater,
    TaskEnd,
    TaskEndKind,
    after_failure,
    pause_reason,
)
from runner.fleet.records import FleetJob, FleetTask
from runner.fleet.sources import Taken, TaskSource
from runner.fleet.task_run import TaskPlace, TaskRun
from runner.fleet.task_store import TaskStore
from runner.results.store import ResultStore, StoreError

LONGEST_PAUSE = 15.0
"""Seconds between two tries of what the database did not answer."""

LAST_PATIENCE = 30.0
"""Seconds for which a worker that is to stop still tries to tell the database."""

SIGNALLED_TOGETHER = 2.0
"""Seconds: whoever stops this worker may signal the whole tree at once, its tasks first."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """Seconds. ``lease``: how long a task is held without a sign of life. ``shutdown_after_empty``:
    polls without a task after which it ends, when nothing is left to do; 0: never."""

    poll_wait: float = 20.0
    lease: float = 300.0
    shutdown_after_empty: int = 6


class Worker:
    """One task at a time. ``run`` blocks; ``stop`` may be called from any thread.

    ``step`` is called with a name between any two steps.
    """

    def __init__(
        self,
        database: FleetDatabase,
        job: FleetJob,
        worker: int,
        name: str,
        source: TaskSource,
        store: TaskStore,
        place: TaskPlace,
        options: WorkerOptions,
        say: Callable[[str], None],
        step: Callable[[str], None] = lambda name: None,
    ) -> None:
        self._database = database
        self._job = job
        self._id = worker
        self._name = name
        self._source = source
        self._store = store
        self._place = place
        self._options = options
        self._say = say
        self._step = step
        self._stopping = threading.Event()
        self._takes_none = threading.Event()
        self._stop_reason = ""
        self._stopped_at: float | None = None
        self._running: TaskRun | None = None
        self._lock = threading.Lock()

    def stop(self, reason: str) -> None:
        """Take no task any more, and give the one that runs back, to be gone on with."""
        with self._lock:
            if self._stopped_at is None:
                self._stopped_at, self._stop_reason = time.monotonic(), reason
            self._stopping.set()
            self._takes_none.set()
            if self._running is not None:
                self._running.interrupt(self._stop_reason)

    def drain(self) -> None:
        """Take no task any more, and end after the one that runs."""
        if not self._takes_none.is_set():
            self._takes_none.set()
            self._say("The worker is drained: it takes no task any more")

    def run(self) -> None:
        """Work until nothing is left, or it is stopped. Raises RunnerError."""
        lease, own = self._options.lease, self._database.another()
        keeper = LeaseKeeper(own, self._id, lease, self._say, self.drain)
        empty, idle_since = 0, time.monotonic()
        try:
            while not self._takes_none.is_set():
                taken = self._patiently(self._take)
                if taken is not None:
                    empty = 0
                    self._step("claimed")
                    self._attend(taken, keeper)
                    idle_since = time.monotonic()
                elif not self._takes_none.is_set():
                    empty += 1
                    self._patiently(self._sweep)
                    if 0 < self._options.shutdown_after_empty <= empty:
                        since = idle_since
                        if self._patiently(lambda: self._nothing_left(since)):  # noqa: B023
                            break
        finally:
            try:
                self._database.stop_worker(self._id)
            except DatabaseAwayError:
                pass  # it will be seen to be silent
            finally:
                keeper.close()

    # -- between tasks -----------------------------------------------------------------------

    def _take(self) -> Taken | None:
        return self._source.take(self._options.poll_wait, self._takes_none)

    def _sweep(self) -> None:
        job = self._database.job(self._job.name)
        if job.paused and not self._job.paused:
            self._say(f"Job {job.name} is paused: {job.paused}")
        self._job = job
        self._source.sweep(job)

    def _nothing_left(self, idle_since: float) -> bool:
        """One idle process stays while tasks run elsewhere or wait for their next attempt.

        Another counts only if it was heard of since this one is idle: it may have been killed.
        """
        backlog = self._database.views.backlog(self._job.id)
        if self._job.paused:
            return True
        if backlog.due:
            return False
        if not backlog.waiting and not backlog.running:
            return True
        idle = time.monotonic() - idle_since
        return not self._database.is_first_idle(self._job.id, self._id, idle)

    def _patiently(self, call: Callable[[], _T]) -> _T:
        """What ``call`` returns, once the database answers. Raises DatabaseAwayError when it is
        stopping and the database stays away."""
        pause, told = 0.2, False
        while True:
            try:
                return call()
            except DatabaseAwayError as error:
                if not told:
                    self._say(f"The database is away, tried again until it is back: {error}")
                    told = True
                since = self._stopped_at
                if since is not None and time.monotonic() > since + LAST_PATIENCE:
                    raise
                time.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)

    # -- one task ----------------------------------------------------------------------------

    def _attend(self, taken: Taken, keeper: LeaseKeeper) -> None:
        task = taken.task
        what = "volume" if task.w_id is not None else "item"
        self._say(f"Processing message: {taken.message} for {what} {task.key}")
        job = self._patiently(lambda: self._database.job(self._job.name))
        run = TaskRun(job, task, self._place, self._say)
        lost: list[str] = []

        def lose(reason: str) -> None:
            lost.append(reason)
            run.kill(reason)

        keeper.hold(task, taken.since, lose, self._source.keeper(taken))
        self._step("held")
        try:
            end = self._end_of(job, task, run)
            if lost and end.kind is not TaskEndKind.SUCCEEDED:
                end = TaskEnd(TaskEndKind.LOST, lost[0])
            self._settle(taken, job, end)
        finally:
            keeper.let_go()
        self._step("settled")
        run.clean_up()

    def _manifest(self, job: FleetJob, task: FleetTask) -> VolumeManifest | None:
        """The task's, if its job has such. Raises StoreError, MissingManifestError."""
        pattern, source = job.options.manifest_key, self._place.manifests
        if pattern is None:
            return None
        if source is None:
            raise MissingManifestError("this worker has no --s3-source-bucket")
        key = key_of(pattern, task)
        found = source.fetch(key)
        if found is None:
            raise MissingManifestError(f"the manifest {source.describe(key)} is missing")
        self._patiently(lambda: self._database.tasks.note_etag(task, found.etag))
        return found

    def _end_of(self, job: FleetJob, task: FleetTask, run: TaskRun) -> TaskEnd:
        """How it ended: as its marker says, else as the run that is made now does."""
        data: bytes | None = None
        try:
            if (manifest := self._manifest(job, task)) is not None:
                task, data = replace(task, etag=manifest.etag), manifest.data
            marker = self._store.read(task)
            self._step("marker_read")
            if marker is None:
                with closing(self._store.run_store(task)) as results:
                    end = self._run(run, results, data)
                self._step("ran")
                if end.kind is not TaskEndKind.SUCCEEDED:
                    return end
                marker = self._store.write(task, self._name, end.metrics, time.time())
                self._step("marker_written")
                if marker.run == task.run:
                    return end
            self._say(f"Run {marker.run} of {task.key} had succeeded: its results count")
            return TaskEnd(TaskEndKind.SUCCEEDED, metrics=marker.measured())
        except UsageError as error:
            return TaskEnd(TaskEndKind.INVALID, str(error))
        except (StoreError, RecordError, OSError) as error:
            return TaskEnd(TaskEndKind.FAILED, str(error))

    def _run(self, run: TaskRun, results: ResultStore, manifest: bytes | None) -> TaskEnd:
        with self._lock:
            if self._stopping.is_set():
                return TaskEnd(TaskEndKind.INTERRUPTED, self._stop_reason)
            self._running = run
        try:
            end = run.run(results, manifest)
        finally:
            with self._lock:
                self._running = None
        if end.signalled and self._stopping.wait(SIGNALLED_TOGETHER):
            return replace(end, kind=TaskEndKind.INTERRUPTED, reason=self._stop_reason)
        return end

    def _settle(self, taken: Taken, job: FleetJob, end: TaskEnd) -> None:
        """Tell the database, then the queue."""
        task, tasks = taken.task, self._database.tasks
        match end.kind:
            case TaskEndKind.SUCCEEDED:
                if self._patiently(lambda: tasks.finish(task, end.metrics)):
                    self._step("finished")
                    self._source.ended(taken)
                    self._say(f"Successfully processed message: {taken.message}")
                else:
                    self._say(f"{task.key} has another holder, who finds its marker")
            case TaskEndKind.INTERRUPTED:
                resume = end.resumable
                self._patiently(lambda: tasks.give_back(task, end.reason, resume=resume))
                self._step("given_back")
                self._source.later(taken, 0.0)
                self._say(f"Gave message back: {taken.message}: {end.reason}")
            case TaskEndKind.LOST:
                self._say(f"Lost message: {taken.message}: {end.reason}")
            case TaskEndKind.FAILED | TaskEndKind.INVALID:
                self._settle_failure(taken, job, end)
            case _:
                assert_never(end.kind)

    def _settle_failure(self, taken: Taken, job: FleetJob, end: TaskEnd) -> None:
        task, tasks = taken.task, self._database.tasks
        decision = after_failure(end, task.attempts, job.options)
        if isinstance(decision, RetryLater):
            self._patiently(
                lambda: tasks.retry_later(task, decision.reason, decision.delay, end.metrics)
            )
            self._step("failed")
            self._source.later(taken, decision.delay)
            told = f"tried again in {decision.delay:g} s"
            self._say(f"Failed to process message: {taken.message}: {decision.reason}; {told}")
            return
        if not self._patiently(lambda: tasks.fail(task, decision.reason, end.metrics)):
            self._say(f"{task.key} has another holder")
            return
        self._step("failed")
        self._say(f"Failed for good: {taken.message}: {decision.reason}")
        self._patiently(lambda: self._source.dead_letter(job))
        self._step("dead_lettered")
        self._source.ended(taken)
        newest = self._patiently(lambda: self._database.views.newest_ends(job.id, FAILED_IN_A_ROW))
        if (why := pause_reason(newest, f"{task.key}: {decision.reason}")) is not None:
            self._patiently(lambda: self._database.pause(job.id, why))
            self._say(f"Job {job.name} is paused: {why}")
