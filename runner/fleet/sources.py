"""Where a worker's tasks come from: the database itself, or a message queue."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from runner.fleet.connection import DatabaseAwayError
from runner.fleet.database import FleetDatabase
from runner.fleet.records import FleetJob, FleetTask

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 1.0
"""Seconds between two looks for a task that has become due."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A task that was claimed. ``since``: our monotonic clock before it was. ``message``: what
    people know it by; ``receipt``: the queue's handle of it."""

    task: FleetTask
    since: float
    message: str
    receipt: str = ""


class TaskSource(Protocol):
    """For one worker's thread, but for what ``keeper`` returns. All raise DatabaseAwayError."""

    def take(self, wait: float, stopping: threading.Event) -> Taken | None:
        """A task, claimed; None after ``wait`` seconds without one, or when it is stopping."""

    def keeper(self, taken: Taken) -> Callable[[], None] | None:
        """What hides it from others besides its lease, once; for the lease's thread."""

    def ended(self, taken: Taken) -> None:
        """It is done, or has failed for good: nobody is to be told of it again."""

    def later(self, taken: Taken, delay: float) -> None:
        """It is to be tried again in ``delay`` seconds."""

    def dead_letter(self, job: FleetJob) -> None:
        """Put what has failed for good, and isn't there, into the dead-letter queue."""

    def sweep(self, job: FleetJob) -> None:
        """After an empty poll: put right what others have left behind."""

    def close(self) -> None:
        """Give back what it holds."""


class DatabaseSource:
    """The embedded fleet's, and PostgreSQL's without SQS: rows that are due, the oldest first."""

    def __init__(
        self,
        database: FleetDatabase,
        job: int,
        worker: int,
        lease: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._job = job
        self._worker = worker
        self._lease = lease
        self._clock = clock

    def take(self, wait: float, stopping: threading.Event) -> Taken | None:
        """See TaskSource."""
        until, pause = self._clock() + wait, FIRST_PAUSE
        while not stopping.is_set():
            if (taken := self._claim(stopping)) is not None:
                return taken
            if (left := until - self._clock()) <= 0:
                break
            stopping.wait(min(pause, left))
            pause = min(2 * pause, LONGEST_PAUSE)
        return None

    def _claim(self, stopping: threading.Event) -> Taken | None:
        claim, since = uuid.uuid4().hex, self._clock()
        try:
            task = self._database.tasks.claim_next(self._job, self._worker, claim, self._lease)
        except DatabaseAwayError:
            # It may have been claimed all the same, and nobody would have it until its lease ends.
            stopping.wait(FIRST_PAUSE)
            task = self._database.tasks.held(self._worker, claim)
        return None if task is None else Taken(task, since, str(task.id))

    def keeper(self, taken: Taken) -> Callable[[], None] | None:
        """See TaskSource: the lease is all there is."""
        return None

    def ended(self, taken: Taken) -> None:
        """See TaskSource: the row says so."""

    def later(self, taken: Taken, delay: float) -> None:
        """See TaskSource: the row says when."""

    def dead_letter(self, job: FleetJob) -> None:
        """See TaskSource: the rows are the dead letters."""

    def sweep(self, job: FleetJob) -> None:
        """See TaskSource."""
        self._database.tasks.reap(job.id)

    def close(self) -> None:
        """See TaskSource."""
