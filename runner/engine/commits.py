"""Steps of the scheduler on their way to the disk: stored first, and only then acted upon.

Owns the step that is not durable yet. While there is no room to store it nothing of it takes
effect, and it is tried again until it is on the disk.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from runner.core.actions import Action
from runner.core.scheduler import Changes, Scheduler
from runner.errors import DiskError, StateError
from runner.store.database import Database

if TYPE_CHECKING:
    from runner.engine.context import EngineContext
    from runner.engine.journaling import Journaling
    from runner.results.claim import SucceededError

FLUSH_AFTER = 0.5
"""Seconds that a change which nothing depends on (a pid, an upload's end) may wait to be stored."""

RETRY_COMMIT = 0.5
"""Seconds until a step that could not be stored is tried again."""


@dataclass(slots=True)
class Step:
    """Changes, and the actions and clients that wait until they are durable.

    ``requests``: the ids of requests that it carries out, and when that was (wall).
    """

    changes: Changes = field(default_factory=Changes)
    actions: list[Action] = field(default_factory=list)
    waiters: list[asyncio.Future[None]] = field(default_factory=list)
    requests: dict[str, float] = field(default_factory=dict)

    def tell_waiters(self) -> None:
        """What was waited for is durable."""
        for future in self.waiters:
            if not future.done():
                future.set_result(None)


class Commits:
    """Of one session. ``on_durable`` gets each step that was stored; ``on_failure`` the error after
    which nothing is stored any more; ``say`` an event, and why, for people. Where there is a
    journal (``EngineContext.journal``) a step counts as stored once that has it too;
    ``on_succeeded`` is called when another driver has gone on with it.
    """

    def __init__(
        self,
        context: EngineContext,
        database: Database,
        scheduler: Scheduler,
        later: Callable[[float, Callable[[], None]], asyncio.TimerHandle],
        on_durable: Callable[[Step], None],
        on_failure: Callable[[BaseException], None],
        say: Callable[..., None],
        on_succeeded: Callable[[SucceededError], None],
    ) -> None:
        self._database = database
        self._scheduler = scheduler
        self._later = later
        self._on_durable = on_durable
        self._on_failure = on_failure
        self._say = say
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = False
        self._unhandled: list[asyncio.Future[None]] = []
        self._unhandled_requests: set[str] = set()
        self._on_their_way: list[Step] = []
        self.requests = database.requests()
        self._journal: Journaling | None = None
        if context.journal:
            from runner.engine.journaling import Journaling
            from runner.results.journal import digest_of

            document = digest_of(database.document())
            self._journal = Journaling(context, scheduler, document, self.requests, on_succeeded)
        self.step = Step()
        self.unwritten: str | None = None
        self.broken = False

    def wait(self, request_id: str | None = None) -> asyncio.Future[None]:
        """Done when what comes of the events of the next step is durable. It hurries that.

        ``request_id``: of a request that they carry out; it is stored in the same step.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if request_id is not None:
            self._unhandled_requests.add(request_id)
        self._unhandled.append(future)
        self._scheduler.changes.urgent = True
        return future

    def handled(self) -> None:
        """The scheduler has handled what was waited for: it is in this step's changes."""
        self.step.waiters += self._unhandled
        self._unhandled.clear()
        if self._unhandled_requests:
            told = dict.fromkeys(self._unhandled_requests, self._scheduler.queue.updated_at or 0.0)
            self.step.requests |= told
            self.requests |= told
            self._unhandled_requests.clear()

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
        records = [(index, scheduler.jobs[index]) for index in changes.jobs]
        try:
            self._database.commit(
                scheduler.queue,
                records,
                changes.story,
                scheduler.names,
                step.requests,
                changes.added,
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
        if self._journal is None:
            self._on_durable(step)
        else:
            self._on_their_way.append(step)
            self._journal.add(
                scheduler.queue, records, changes.added, step.requests, self._journaled
            )

    def _journaled(self) -> None:
        """The journal has one more step: the oldest of those that it was given."""
        if not self.broken:
            self._on_durable(self._on_their_way.pop(0))

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
        waiting = [future for step in self._on_their_way for future in step.waiters]
        for future in (*waiting, *self.step.waiters, *self._unhandled):
            if not future.done():
                future.set_exception(StateError(f"the queue could not be worked on: {why}"))
        self._unhandled.clear()

    def stop_timer(self) -> None:
        """Until the next commit nothing is stored."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    @property
    def trouble(self) -> str | None:
        """Why a step isn't stored, if one isn't."""
        return self.unwritten or (self._journal.error if self._journal is not None else None)

    async def settle(self, until: float) -> None:
        """Wait until what was committed is acted upon, or until then (monotonic seconds)."""
        if self._journal is not None:
            await self._journal.finish(until)

    def stop(self) -> None:
        """Begin nothing more by itself."""
        self._stopped = True
        self.stop_timer()
        if self._journal is not None:
            self._journal.stop()

    def join(self) -> None:
        """Wait for what is under way. Blocks; after ``stop``."""
        if self._journal is not None:
            self._journal.join()


def _merge(into: Changes, more: Changes) -> None:
    into.jobs |= more.jobs
    into.story += more.story
    into.added += more.added
    into.urgent = into.urgent or more.urgent
