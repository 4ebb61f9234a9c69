"""Steps of the scheduler on their way to the disk: stored first, and only then acted upon.

Owns the step that is not durable yet. While there is no room to store it nothing of it takes
effect, and it is tried again until it is on the disk.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from runner.core.actions import Action
from runner.core.scheduler import Changes, Scheduler
from runner.errors import DiskError, StateError
from runner.store.database import Database

FLUSH_AFTER = 0.5
"""Seconds that a change which nothing depends on (a pid, an upload's end) may wait to be stored."""

RETRY_COMMIT = 0.5
"""Seconds until a step that could not be stored is tried again."""


@dataclass(slots=True)
class Step:
    """Changes, and the actions and clients that wait until they are durable."""

    changes: Changes = field(default_factory=Changes)
    actions: list[Action] = field(default_factory=list)
    waiters: list[asyncio.Future[None]] = field(default_factory=list)

    def tell_waiters(self) -> None:
        """What was waited for is durable."""
        for future in self.waiters:
            if not future.done():
                future.set_result(None)


class Commits:
    """Of one session. ``on_durable`` gets each step that was stored; ``on_failure`` the error after
    which nothing is stored any more; ``say`` an event, and why, for people."""

    def __init__(
        self,
        database: Database,
        scheduler: Scheduler,
        later: Callable[[float, Callable[[], None]], asyncio.TimerHandle],
        on_durable: Callable[[Step], None],
        on_failure: Callable[[BaseException], None],
        say: Callable[..., None],
    ) -> None:
        self._database = database
        self._scheduler = scheduler
        self._job_ids = [job.job_id for job in scheduler.document.jobs]
        self._later = later
        self._on_durable = on_durable
        self._on_failure = on_failure
        self._say = say
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = False
        self._unhandled: list[asyncio.Future[None]] = []
        self.step = Step()
        self.unwritten: str | None = None
        self.broken = False

    def wait(self) -> asyncio.Future[None]:
        """Done when what comes of the events of the next step is durable. It hurries that."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._unhandled.append(future)
        self._scheduler.changes.urgent = True
        return future

    def handled(self) -> None:
        """The scheduler has handled what was waited for: it is in this step's changes."""
        self.step.waiters += self._unhandled
        self._unhandled.clear()

    def commit(self, *, force: bool = False) -> None:
        """Store what changed if it is urgent, or with ``force``; else soon."""
        if self.broken:
            return
        step, scheduler = self.step, self._scheduler
        _merge(step.changes, scheduler.take_changes())
        changes = step.changes
        if not (changes.urgent or (force and (changes.jobs or changes.story))):
            if (changes.jobs or changes.story) and self._timer is None and not self._stopped:
                self._timer = self._later(FLUSH_AFTER, self._flush)
            return
        try:
            self._database.commit(
                scheduler.queue,
                [(index, scheduler.jobs[index]) for index in changes.jobs],
                changes.story,
                self._job_ids,
            )
        except DiskError as error:
            self._on_disk_error(str(error))
            return
        except Exception as error:
            self._on_failure(error)
            return
        if self.unwritten is not None:
            self.unwritten = None
            self._say("state_written_again")
            self._database.keep_room()
        self.step = Step()
        self._on_durable(step)

    def _flush(self) -> None:
        self._timer = None
        if not self._stopped:
            self.commit(force=True)

    def _on_disk_error(self, message: str) -> None:
        """Nothing of the step took effect. Running jobs go on; it is tried again."""
        if self.unwritten is None:
            self._say("state_not_written", why=message)
        self.unwritten = message
        if self._timer is None and not self._stopped:
            self.step.changes.urgent = True
            self._timer = self._later(RETRY_COMMIT, self._flush)

    def give_up(self, why: str) -> None:
        """Store nothing any more: the next session begins with what is stored."""
        self.broken = True
        self.refuse(why)

    def refuse(self, why: str) -> None:
        """Clients that wait for a step to be durable wait in vain."""
        for future in (*self.step.waiters, *self._unhandled):
            if not future.done():
                future.set_exception(StateError(f"the queue could not be worked on: {why}"))
        self._unhandled.clear()

    def stop_timer(self) -> None:
        """Until the next commit nothing is stored."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def stop(self) -> None:
        """Begin nothing more by itself."""
        self._stopped = True
        self.stop_timer()


def _merge(into: Changes, more: Changes) -> None:
    into.jobs |= more.jobs
    into.story += more.story
    into.urgent = into.urgent or more.urgent
