"""Asks the fleet's database what has become of the tasks that Futures wait for: all at once.

One statement finds what has ended since the last look, another what runs. How often is paced by
whether anything happens: ten times a second, then once. With nothing to wait for nothing is asked.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from runner.api.fleet_job import FollowedTask, end_of
from runner.api.job_target import JobListener
from runner.errors import NotFoundError
from runner.fleet.database import FleetDatabase
from runner.fleet.protocol import LONGEST_BEAT
from runner.fleet.records import FleetJob, TaskState
from runner.fleet.task_news import EndedTask
from runner.model.messages import quoted

SHORTEST, LONGEST = 0.05, 1.0
"""Seconds between two looks."""

OVERLAP = 5.0
"""Seconds for which a row may have been committed later than it says."""

CHECK_EVERY = 30.0
"""Seconds between two looks at each single task: clocks jump, and a commit may hang for long."""

QUIET = 15.0
"""Seconds without any news after which it is asked whether there are workers."""

NOTE_EVERY = 600.0
"""Seconds between two notes that there are none."""

_log = logging.getLogger("runner.executor")


class FleetPoll:
    """For the target's thread. ``followed``: the tasks, by their keys; those that have ended are
    taken out and told to the listener; ``ended`` is called with each before. ``enqueued``: the keys
    of those that are in the database. ``hint``: how to start
    a worker, "" where the Executor has its own."""

    def __init__(
        self,
        database: FleetDatabase,
        job: FleetJob,
        followed: dict[str, FollowedTask],
        listener: JobListener,
        ended: Callable[[EndedTask, FollowedTask], None],
        enqueued: Callable[[], list[str]],
        hint: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._job = job
        self._followed = followed
        self._listener = listener
        self._ended = ended
        self._enqueued = enqueued
        self._hint = hint
        self._clock = clock
        self._looked: float | None = None
        self._next = self._pause = 0.0
        self._check_at = self._quiet_since = 0.0
        self._noted: float | None = None

    def soon(self) -> None:
        """Something was asked for, or added: look again shortly."""
        self._pause = SHORTEST
        self._next = min(self._next, self._clock() + SHORTEST)

    def wait(self) -> float | None:
        """Seconds until the next look; None: there is nothing to look for."""
        return max(0.0, self._next - self._clock()) if self._followed else None

    def look(self) -> None:
        """Look, if it is time. Raises DatabaseAwayError."""
        now = self._clock()
        if not self._followed:
            self._looked = None
            return
        if self._looked is None:
            self._looked = self._quiet_since = now
            self._check_at = now + CHECK_EVERY
        if now < self._next:
            return
        news, job = self._database.news, self._job.id
        ended = news.ended_within(job, now - self._looked + OVERLAP)
        if now >= self._check_at:
            keys = self._enqueued()
            ended += news.ended_among(job, keys)
            self._tell_missing(news.missing_among(job, keys))
            self._check_at = now + CHECK_EVERY
        self._looked = now
        found = self._tell_started()
        for each in ended:
            found |= self.tell(each)
        if found:
            self._quiet_since = now
        elif now > self._quiet_since + QUIET:
            self._note(now)
        self._pause = SHORTEST if found else min(LONGEST, 1.5 * max(self._pause, SHORTEST))
        self._next = now + self._pause

    def tell(self, task: EndedTask) -> bool:
        """It has ended; whether anything waited for it."""
        followed = self._followed.pop(task.key, None)
        if followed is None:
            return False
        self._ended(task, followed)
        if task.epoch and not followed.started:  # it began and ended between two looks
            self._listener.started(task.key)
        self._listener.ended(end_of(task, followed))
        return True

    def _tell_started(self) -> bool:
        found = False
        for key in self._database.news.running(self._job.id):
            followed = self._followed.get(key)
            if followed is not None and not followed.started:
                followed.started = found = True
                self._listener.started(key)
        return found

    def _tell_missing(self, keys: list[str]) -> None:
        told = f"fleet job {quoted(self._job.name)} was deleted, and all its tasks"
        for key in keys:
            if self._followed.pop(key, None) is not None:
                self._listener.refused(key, NotFoundError(told))

    def _note(self, now: float) -> None:
        """Nothing happens: say what a person has to do about it."""
        if not self._hint or (self._noted is not None and now < self._noted + NOTE_EVERY):
            return
        self._noted = now
        name = self._job.name
        if paused := self._database.job(name).paused:
            told = "job %s is paused: %s: `runner-fleet jobs resume %s` ends the pause"
            _log.warning(told, name, paused, name)
            return
        running = any(each.started for each in list(self._followed.values()))
        since = self._database.now() - 2 * LONGEST_BEAT
        workers = self._database.workers(self._job.id)
        alive = any(w.stopped_at is None and (w.beat_at or 0.0) > since for w in workers)
        if not running and not alive:
            told = "%d jobs wait, and no worker of job %s is heard of: start some by `%s`"
            _log.warning(told, len(self._followed), name, self._hint)


def is_over(state: TaskState) -> bool:
    """Whether nothing will come of a task any more, by itself."""
    return state in (TaskState.DONE, TaskState.TERMINAL_FAILED, TaskState.CANCELLED)
