"""Tasks from SQS: a message rings, the database decides whether its task is to be had.

Owns what becomes of a message whose task can't be claimed now: done, cancelled, failed, held by
another, not due yet, or of no task at all.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable

from runner.aws.errors import AwsError, ErrorKind
from runner.aws.sqs import LONGEST_POLL, SqsMessage
from runner.errors import RecordError
from runner.fleet.connection import DatabaseAwayError
from runner.fleet.database import FleetDatabase
from runner.fleet.records import FleetJob, FleetTask, TaskState
from runner.fleet.sources import Taken
from runner.fleet.task_queue import TaskMessage, TaskQueue, parse_message, send_unsent

SENT_LONG_AGO = 2.0
"""Leases after which a message that nobody has received is sent again, if the queue is empty."""

PAUSED = 60.0
"""Seconds until a message of a paused job is looked at again."""

AT_LIMIT = 1.0
"""Seconds until a job of which as many tasks run as may is looked at again, and until the message
of a task that was one too many is."""

AWAY = 5.0
"""Seconds until a queue that is away is asked again."""

_FINAL = (ErrorKind.DENIED, ErrorKind.MISSING, ErrorKind.NO_CREDENTIALS, ErrorKind.INVALID)


class MessageSource:
    """See TaskSource."""

    def __init__(
        self,
        queue: TaskQueue,
        database: FleetDatabase,
        job: int,
        worker: int,
        lease: float,
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._queue = queue
        self._database = database
        self._job = job
        self._worker = worker
        self._lease = lease
        self._say = say
        self._clock = clock
        self._seems_empty = False
        self._limited = False

    def take(self, wait: float, stopping: threading.Event) -> Taken | None:
        """See TaskSource. A poll isn't cut off: it may be given a message at its last moment."""
        until, self._seems_empty = self._clock() + wait, False
        while not stopping.is_set():
            left = until - self._clock()
            if self._limited and self._database.tasks.at_limit(self._job):
                # A message that is received now could only be put off.
                stopping.wait(max(0.0, min(AT_LIMIT, left)))
                if left <= AT_LIMIT:
                    break
                continue
            try:
                since = self._clock()
                message = self._queue.receive(
                    max(0, min(LONGEST_POLL, round(left))), max(1, round(self._lease))
                )
                self._seems_empty = message is None
                if message is not None:
                    if (taken := self._attend(message, since, stopping)) is not None:
                        return taken
            except AwsError as error:
                if error.kind in _FINAL:
                    raise
                self._say(f"The task queue is away, tried again until it is back: {error}")
                stopping.wait(AWAY)
            if self._clock() >= until:
                break
        return None

    def _attend(self, message: SqsMessage, since: float, stopping: threading.Event) -> Taken | None:
        if stopping.is_set():
            self._queue.keep(message.handle, 0)
            return None
        try:
            told = parse_message(message.body)
        except RecordError as error:
            self._refuse(message, str(error))
            return None
        task = self._claim(told, stopping)
        if task is not None:
            return Taken(task, since, message.id, message.handle)
        found = self._database.tasks.find(told.task)
        if found is None or found.job_id != self._job:
            self._refuse(message, f"message: there is no task {told.task} of this job")
            return None
        if found.state is TaskState.TERMINAL_FAILED and told.dead_epoch is not None:
            if self._database.tasks.revive(found.id, told.dead_epoch):
                self._say(f"{found.key} is tried again: its dead letter was moved back")
                task = self._claim(told, stopping)
        if task is not None:
            return Taken(task, since, message.id, message.handle)
        self._put_off(message, found)
        return None

    def _claim(self, told: TaskMessage, stopping: threading.Event) -> FleetTask | None:
        claim, tasks = uuid.uuid4().hex, self._database.tasks
        try:
            return tasks.claim(told.task, self._job, self._worker, claim, self._lease)
        except DatabaseAwayError:
            stopping.wait(1.0)
            return tasks.held(self._worker, claim)

    def _refuse(self, message: SqsMessage, reason: str) -> None:
        self._say(f"Message {message.id} goes to the dead letters: {reason}")
        self._queue.refuse(message, reason)

    def _put_off(self, message: SqsMessage, task: FleetTask) -> None:
        """It can't be claimed now: nobody needs it any more, or not yet."""
        match task.state:
            case TaskState.DONE | TaskState.CANCELLED | TaskState.TERMINAL_FAILED:
                self._queue.delete(message.handle)
            case TaskState.PENDING | TaskState.RETRYABLE_FAILED:
                due = (task.not_before or 0.0) - self._database.now()
                if at_limit := self._database.tasks.at_limit(self._job):
                    self._limited = True
                late = AT_LIMIT if at_limit else PAUSED
                self._queue.keep(message.handle, due + 1 if due > 0 else late)
            case TaskState.RUNNING:
                pass  # hidden for a lease: by then it has ended, or its lease has

    def keeper(self, taken: Taken) -> Callable[[], None] | None:
        """See TaskSource."""
        return lambda: self._keep(taken)

    def _keep(self, taken: Taken) -> None:
        self._queue.keep(taken.receipt, self._lease)

    def ended(self, taken: Taken) -> None:
        """See TaskSource. One that isn't deleted is by whoever receives it next."""
        try:
            self._queue.delete(taken.receipt)
        except AwsError as error:
            self._say(f"Message {taken.message} could not be deleted: {error}")

    def later(self, taken: Taken, delay: float) -> None:
        """See TaskSource. Where its message can't be kept the row stays unsent, and is swept."""
        try:
            if self._queue.keep(taken.receipt, delay):
                self._database.tasks.note_sent([taken.task.id])
        except AwsError as error:
            self._say(f"Message {taken.message} could not be put off: {error}")

    def dead_letter(self, job: FleetJob) -> None:
        """See TaskSource. What isn't accepted is swept."""
        tasks = self._database.tasks
        try:
            while failed := tasks.missing_dead_letters(job.id, 100):
                accepted = self._queue.send_dead(failed)
                tasks.note_dead_letters(accepted)
                if len(accepted) < len(failed):
                    break
        except AwsError as error:
            self._say(f"Dead letters could not be sent: {error}")

    def sweep(self, job: FleetJob) -> None:
        """See TaskSource. Only while the queue seems to be empty: else all of a long backlog, which
        was sent long ago too, would be sent again."""
        self._database.tasks.reap(job.id)
        self.dead_letter(job)
        if job.paused:
            return
        try:
            send_unsent(self._database, self._queue, job)
            if self._seems_empty:
                send_unsent(self._database, self._queue, job, SENT_LONG_AGO * self._lease)
        except AwsError as error:
            self._say(f"Messages could not be sent: {error}")

    def close(self) -> None:
        """See TaskSource."""
