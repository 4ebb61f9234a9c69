"""The target ``fleet``: calls and commands are tasks of a fleet job, run by its workers anywhere.

Owns one thread, which alone talks to the database: it enqueues what was submitted, asks for what
has ended, for all Futures at once, and does what Futures ask for. The fleet decides who runs a task
and whose run counts; nothing of that is here.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from runner.api.capabilities import Capabilities
from runner.api.fleet_files import FleetFiles
from runner.api.fleet_job import FollowedTask, found_job, item_of, status_of
from runner.api.fleet_poll import FleetPoll, is_over
from runner.api.fleet_workers import LocalWorkers
from runner.api.job_target import CommandOutput, JobEnd, JobListener
from runner.api.payload import PickledPayload
from runner.api.tasks import PayloadReference, Task
from runner.api.thread_requests import ThreadRequests
from runner.aws.errors import AwsError
from runner.errors import NotFoundError, RunnerError, StateError
from runner.fleet.connection import DatabaseAwayError
from runner.fleet.database import FleetDatabase
from runner.fleet.records import FleetJob, FleetTask, TaskItem, TaskState
from runner.fleet.task_news import EndedTask
from runner.fleet.task_outcome import TaskOutcome
from runner.fleet.task_queue import TaskQueue, send_unsent
from runner.model.messages import quoted

AWAY = 2.0
"""Seconds until a database or queue that did not answer is asked again."""

LAST_PATIENCE = 30.0
"""Seconds for which an Executor that lets go still tries to store what was submitted."""

AT_ONCE = 2000
"""Tasks of one transaction."""

NAMED_AT_ONCE = 500
"""Tasks that one statement names."""

_log = logging.getLogger("runner.executor")


@dataclass(frozen=True, slots=True)
class FleetPlace:
    """A fleet job as an Executor has it. ``session``: the number of this one; ``queue``: its
    message queue, None: the database hands out its tasks; ``hint``: how to start a worker;
    ``code``: folders of modules that go where the calls go."""

    database: FleetDatabase
    job: FleetJob
    session: int
    files: FleetFiles
    queue: TaskQueue | None
    workers: LocalWorkers | None
    hint: str
    code: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Ended:
    """Where what a task has left is: the run that counts."""

    run: int
    declares: bool


class FleetTarget:
    """See JobTarget."""

    region: str | None = None

    def __init__(self, place: FleetPlace, listener: JobListener, name: str = "fleet") -> None:
        self.name = name
        self.id_prefix = f"{place.session}-"
        self._place = place
        self._database, self._job, self._files = place.database, place.job, place.files
        self._listener = listener
        self._followed: dict[str, FollowedTask] = {}
        self._ends: dict[str, _Ended] = {}
        self._incoming: deque[TaskItem] = deque()
        self._code: str | None = None
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._requests = ThreadRequests(self._wake)
        self._closing = self._over = self._unsent = self._told_away = False
        self._detach_until: float | None = None
        self._again_at = self._send_at = 0.0
        hint = "" if place.workers is not None else place.hint
        self._poll = FleetPoll(
            self._database, self._job, self._followed, listener, self._on_end, self._enqueued, hint
        )
        self._thread = threading.Thread(target=self._run, name=f"runner-{name}", daemon=True)
        self._thread.start()

    # -- the thread --------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._is_done():
                self._wake.wait(self._wait())
                self._wake.clear()
                try:
                    self._turn()
                except DatabaseAwayError as error:
                    self._note_away(error)
        except BaseException as error:
            _log.exception("the thread of target %s has failed", self.name)
            self._listener.failed(error)
        finally:
            self._let_go()

    def _is_done(self) -> bool:
        if self._detach_until is not None:
            stored = not (self._incoming or self._unsent or self._requests.intended)
            return stored or time.monotonic() > self._detach_until
        return self._closing and not (self._incoming or self._followed or self._requests.intended)

    def _wait(self) -> float | None:
        """Seconds until there is something to do, if nothing is asked for; None: not before."""
        now, waits = time.monotonic(), []
        if self._incoming or self._requests.intended:
            waits.append(self._again_at - now)
        if self._unsent:
            waits.append(self._send_at - now)
        if (poll := self._poll.wait()) is not None:
            waits.append(max(poll, self._again_at - now))
        if self._place.workers is not None:
            waits.append(5.0)
        return max(0.0, min(waits)) if waits else None

    def _turn(self) -> None:
        self._requests.answer()
        if self._place.workers is not None:
            self._place.workers.replace_ended()
        if time.monotonic() < self._again_at:
            return
        self._enqueue()
        self._requests.carry_out()
        self._poll.look()
        if self._told_away:
            _log.warning("the fleet's database is back")
        self._told_away = False

    def _note_away(self, error: DatabaseAwayError) -> None:
        self._again_at = time.monotonic() + AWAY
        if not self._told_away:
            self._told_away = True
            _log.warning("the fleet's database is away, tried again until it is back: %s", error)

    def _enqueue(self) -> None:
        """Rows first, then messages; what is cut off between is made good by a later turn, or by
        the fleet's workers."""
        while self._incoming:
            items = [self._incoming.popleft() for _ in range(min(AT_ONCE, len(self._incoming)))]
            try:
                self._database.tasks.enqueue(self._job.id, items)
            except BaseException as error:
                self._incoming.extendleft(reversed(items))
                if not isinstance(error, DatabaseAwayError):
                    self._check_job()
                raise
            self._unsent = self._place.queue is not None
            self._poll.soon()
        if self._place.queue is None or not self._unsent or time.monotonic() < self._send_at:
            return
        try:
            send_unsent(self._database, self._place.queue, self._job)
            self._unsent = False
        except AwsError as error:
            self._send_at = time.monotonic() + AWAY
            _log.warning("messages could not be sent, tried again: %s", error)

    def _check_job(self) -> None:
        """Raise NotFoundError if the job was deleted: no task of it can be added."""
        found = found_job(self._database, self._job.name)
        if found is None or found.id != self._job.id:
            raise NotFoundError(f"fleet job {quoted(self._job.name)} was deleted")

    def _enqueued(self) -> list[str]:
        """The followed tasks that are in the database: in this thread nothing is in between."""
        followed = list(self._followed)
        waiting = {item.key for item in list(self._incoming)}
        return [key for key in followed if key not in waiting]

    def _on_end(self, task: EndedTask, followed: FollowedTask) -> None:
        if task.outcome is not None:
            self._ends[task.key] = _Ended(task.outcome.run, followed.declares)

    def _let_go(self) -> None:
        with self._lock:
            self._over = True
        if self._incoming:
            _log.error("%d jobs could not be stored, and are lost", len(self._incoming))
        gone = StateError("the executor's fleet is not reached any more")
        for item in self._incoming:
            self._listener.refused(item.key, gone)
        self._requests.end()
        if self._place.workers is not None:
            self._place.workers.stop()
        self._database.close()

    # -- jobs --------------------------------------------------------------------------------

    def refusal(self, capabilities: Capabilities, *, function: bool) -> str | None:
        """See JobTarget."""
        for name in ("queue", "job_definition", "region"):
            if getattr(capabilities, name) is not None:
                return f'"{name}" is of AWS Batch, and target "{self.name}" is a fleet of workers'
        if capabilities.image:
            return f'"image": the workers of target "{self.name}" run no containers'
        return None

    def away(self, capabilities: Capabilities, *, function: bool) -> str | None:
        """See JobTarget: what its database doesn't take now, it is given later."""
        return None

    def region_of(self, job_id: str) -> str | None:
        """See JobControl."""
        return self.region

    def first_number(self) -> int:
        """See JobTarget: this session's own, its prefix tells it from others."""
        return 1

    def store_call(self, job_id: str, body: bytes, path: Sequence[str]) -> PayloadReference:
        """See JobTarget. Modules that go with the calls are stored once."""
        code = self._place.code
        with self._lock:
            if code and self._code is None:
                self._code = self._files.store_code(code)
        return self._files.store_call(job_id, body, [each for each in path if each not in code])

    def add(self, task: Task) -> None:
        """See JobTarget."""
        try:
            item = item_of(task, self._code)
        except (RunnerError, ValueError) as error:
            self._listener.refused(task.id, error)
            return
        with self._lock:
            if not self._over:
                self._followed[task.id] = FollowedTask.of(task)
                self._incoming.append(item)
                self._wake.set()
                return
        self._listener.refused(task.id, StateError("the executor's fleet has been let go of"))

    def follow(self, job_id: str) -> None:
        """See JobTarget."""

        def look() -> bool:
            task = self._database.tasks.named(self._job.id, job_id)
            if task is None:
                return False
            self._followed[job_id] = FollowedTask.stored(task)
            if is_over(task.state):
                for ended in self._database.news.ended_among(self._job.id, [job_id]):
                    self._poll.tell(ended)
            self._poll.soon()
            return True

        if not self._requests.ask(look, False):
            where = self._database.describe()
            raise NotFoundError(
                f"there is no job {quoted(job_id)} in fleet job {quoted(self._job.name)} of {where}"
            )

    def cancel(self, job_id: str) -> bool:
        """See JobControl. Raises DatabaseAwayError."""

        def cancel() -> bool:
            if not self._withdrawn([job_id]):
                if not self._database.tasks.cancel(self._job.id, [job_id]):
                    return False
                self._followed.pop(job_id, None)
                self._listener.ended(JobEnd(job_id, TaskState.CANCELLED.value))
            return True

        return self._requests.ask(cancel, False)

    def _withdrawn(self, keys: Sequence[str] | None = None) -> bool:
        """Take back what is not enqueued yet, all of it or these; whether there was any."""
        items = list(self._incoming)
        taken = [item for item in items if keys is None or item.key in keys]
        for item in taken:
            self._incoming.remove(item)
            self._followed.pop(item.key, None)
            self._listener.ended(JobEnd(item.key, TaskState.CANCELLED.value))
        return bool(taken)

    def cancel_waiting(self) -> None:
        """See JobTarget."""
        self._requests.have(lambda: self._cancel_followed(running=False))

    def terminate_all(self) -> None:
        """See JobTarget."""
        self._requests.have(lambda: self._cancel_followed(running=True))

    def _cancel_followed(self, *, running: bool) -> None:
        self._withdrawn()
        keys = list(self._followed)
        for start in range(0, len(keys), NAMED_AT_ONCE):
            some = keys[start : start + NAMED_AT_ONCE]
            self._database.tasks.cancel(self._job.id, some, running=running)
        self._poll.soon()

    def terminate(self, job_id: str) -> None:
        """See JobControl. Its worker ends its processes when it next extends its lease."""

        def end() -> None:
            self._database.tasks.cancel(self._job.id, [job_id], running=True)
            self._poll.soon()

        self._requests.have(end)

    def status(self, job_id: str) -> str:
        """See JobControl. Raises DatabaseAwayError."""
        return self._requests.ask(
            lambda: status_of(*self._found(self._database, job_id)), "unknown"
        )

    def _found(
        self, database: FleetDatabase, job_id: str
    ) -> tuple[FleetTask | None, TaskOutcome | None]:
        """A task, and how it ended if it is done; None: it isn't enqueued yet."""
        task, outcome = database.tasks.named(self._job.id, job_id), None
        if task is not None and task.state is TaskState.DONE:
            for ended in database.news.ended_among(self._job.id, [job_id]):
                outcome = ended.outcome
        return task, outcome

    # -- files -------------------------------------------------------------------------------

    def logs(self, job_id: str, stream: str) -> str:
        """See JobControl. Also after the Executor's end. Raises DatabaseAwayError, StoreError."""
        nothing: tuple[FleetTask | None, TaskOutcome | None] = (None, None)
        task, outcome = self._requests.ask(lambda: self._found(self._database, job_id), nothing)
        if task is None and self._over:
            database = self._database.another()
            try:
                task, outcome = self._found(database, job_id)
            finally:
                database.close()
        if task is None:
            raise NotFoundError(f"there is no log of job {quoted(job_id)} yet")
        return self._files.log(job_id, outcome.run if outcome else task.run, stream)

    def result(self, end: JobEnd) -> PickledPayload | None:
        """See JobTarget. Raises StoreError, too."""
        found = self._ends.get(end.job_id)
        return None if found is None else self._files.result(end.job_id, found.run, end.attempt)

    def output(self, end: JobEnd) -> CommandOutput:
        """See JobTarget. Raises StoreError."""
        found = self._ends.get(end.job_id)
        if found is None:
            return CommandOutput("", "", False)
        completed = end.status == "completed"
        return self._files.output(end.job_id, found.run, results=found.declares and completed)

    def forget(self, end: JobEnd) -> None:
        """See JobTarget. Results stay: other sessions may attach to them. The call of a task that
        could not be run stays, too: the task can be driven again."""
        if self._ends.pop(end.job_id, None) is not None and end.function:
            with suppress(RunnerError, OSError):
                self._files.forget_call(end.job_id)

    # -- the end -----------------------------------------------------------------------------

    def close(self) -> None:
        """See JobTarget."""
        self._closing = True
        self._wake.set()

    def detach(self) -> None:
        """See JobTarget. What was submitted is durable first; workers of its own end."""
        self._detach_until = time.monotonic() + LAST_PATIENCE
        self._wake.set()

    def join(self, timeout: float | None = None) -> bool:
        """See JobTarget."""
        self._thread.join(timeout)
        return not self._thread.is_alive()
