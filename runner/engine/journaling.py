"""Steps on their way to the journal in the result store: where a session has no disk that lasts.

A step counts as stored, and is acted upon, only once its part is there. One part at a time is under
way; what is committed meanwhile goes into the next, so that a slow store makes parts larger and not
more. Owns when a part holds all records, and what happens while the store doesn't take one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from runner.core.history import Added
from runner.core.scheduler import Scheduler
from runner.core.states import PENDING, JobState, QueueState
from runner.engine.call_threads import GRACE, CallThreads, patience_with
from runner.engine.clock import now
from runner.engine.context import EngineContext
from runner.model.growth import added_job, added_to
from runner.model.queue import AddedJob
from runner.results.claim import SucceededError
from runner.results.journal import (
    WHOLE_EVERY,
    JournalPart,
    own_last_part,
    put_part,
    remove_old_parts,
)
from runner.results.layout import Layout
from runner.results.store import StoreError

FIRST_RETRY = 0.5
LONGEST_RETRY = 10.0
"""Seconds between two tries to store a part."""


class Journaling:
    """The journal of one session. ``error`` tells why nothing can be stored now, if so.

    ``on_succeeded`` is called once, when another driver has gone on instead. ``requests``: the ids
    of requests that earlier sessions have carried out; ``document``: the digest of the queue's.
    """

    def __init__(
        self,
        context: EngineContext,
        scheduler: Scheduler,
        document: str,
        requests: Mapping[str, float],
        on_succeeded: Callable[[SucceededError], None],
    ) -> None:
        assert context.results is not None
        self.error: str | None = None
        self._on_succeeded = on_succeeded
        self._store = context.results
        self._layout = Layout()
        self._run_id = scheduler.queue.run_id
        self._after = context.journal_after
        self._writer = context.holder(self._run_id)
        self._loop = asyncio.get_running_loop()
        self._pool = CallThreads(1, "journal", patience_with(self._store))
        # As of the last step that was added: the scheduler's own may be ahead of it.
        self._jobs = list(scheduler.jobs)
        self._queue = scheduler.queue
        self._document = document
        self._requests = dict(requests)
        self._changed: set[int] = set()
        self._scheduler = scheduler
        self._added = added_to(scheduler.given)
        self._new_added: list[tuple[int, AddedJob]] = []
        self._new_requests: dict[str, float] = {}
        self._waiting: list[Callable[[], None]] = []
        self._parts = 0
        self._delay = FIRST_RETRY
        self._task: asyncio.Task[None] | None = None
        self._stopped = False

    def add(
        self,
        queue: QueueState,
        records: list[tuple[int, JobState]],
        added: Sequence[Added],
        requests: Mapping[str, float],
        stored: Callable[[], None],
    ) -> None:
        """Store these records with the next part; ``stored`` is called when that is done."""
        self._queue = queue
        self._new_added += [(each.place, added_job(each.job, each.parent)) for each in added]
        self._jobs += [PENDING] * (len(self._scheduler.jobs) - len(self._jobs))
        for index, state in records:
            self._jobs[index] = state
            self._changed.add(index)
        self._new_requests |= requests
        self._requests |= requests
        self._waiting.append(stored)
        if self._task is None and not self._stopped:
            self._task = self._loop.create_task(self._store_all())

    async def _store_all(self) -> None:
        try:
            while self._waiting and not self._stopped:
                waiting, part = self._waiting, self._next_part()
                self._waiting = []
                if not await self._store_part(part):
                    return
                for stored in waiting:
                    # What one raises is its engine's, and keeps nothing from being stored.
                    self._loop.call_soon(stored)
        finally:
            self._task = None

    def _next_part(self) -> JournalPart:
        moment = now()
        whole = self._parts % WHOLE_EVERY == 0
        self._parts += 1
        indexes = range(len(self._jobs)) if whole else sorted(self._changed)
        # A record that says nothing is left out, unless it takes another's place.
        told = {
            index: state
            for index in indexes
            if not ((state := self._jobs[index]) == PENDING and whole)
        }
        requests = self._requests if whole else self._new_requests
        self._added += self._new_added
        added = self._added if whole else self._new_added
        self._changed, self._new_requests, self._new_added = set(), {}, []
        document = self._document if whole else None
        return JournalPart(
            self._writer, moment, self._queue, told, dict(requests), document, dict(added)
        )

    async def _store_part(self, part: JournalPart) -> bool:
        """Store it, however often it has to be tried; whether it is stored."""
        while not self._stopped:
            try:
                await self._loop.run_in_executor(self._pool, self._put, part)
            except SucceededError as error:
                self.error = str(error)
                self._stopped = True
                self._on_succeeded(error)
                return False
            except StoreError as error:
                self.error = f"the journal can't be stored: {error}"
            except Exception as error:
                # A bug, or no thread: told and tried again, as what the store refuses is.
                self.error = f"the journal: internal error: {type(error).__name__}: {error}"
            else:
                self.error, self._delay = None, FIRST_RETRY
                return True
            await asyncio.sleep(self._delay)
            self._delay = min(2 * self._delay, LONGEST_RETRY)
        return False

    def _put(self, part: JournalPart) -> None:
        """Called in a thread. Raises StoreError."""
        if self._after is None:
            self._after = own_last_part(self._store, self._layout, self._run_id, self._writer)
        put_part(self._store, self._layout, self._run_id, self._after + 1, part)
        self._after += 1
        if part.whole:
            with suppress(StoreError):  # the next one removes it
                remove_old_parts(self._store, self._layout, self._run_id, self._after)

    async def finish(self, until: float) -> None:
        """Wait until all that was added is stored, or until then (monotonic seconds)."""
        if self._task is not None:
            left = max(0.0, until - self._loop.time())
            await asyncio.wait([self._task], timeout=left + GRACE)

    def stop(self) -> None:
        """Begin nothing more."""
        self._stopped = True
        if self._task is not None:
            self._task.cancel()
        self._pool.stop()

    def join(self) -> None:
        """Wait for what is under way. Blocks; after ``stop``."""
        self._pool.join()
