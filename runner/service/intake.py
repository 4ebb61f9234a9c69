"""Taking a document in: a queue is created, changed, begun anew, or found to be the same.

Owns what each way of submitting does to a queue that rests, and to one that is worked on: that is
left first, and its jobs go on meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from runner.core import events as ev
from runner.errors import ConflictError
from runner.model.document import Queue
from runner.model.settings import Settings
from runner.service.session import Place, Session, apply_resting, end_attempts, update
from runner.service.shelf import Again, Shelf
from runner.store.database import TAKEN_OVER


class Intake:
    """The intake of one daemon.

    ``place``: where jobs run from now on; ``session_of``: the session of a queue that is worked on;
    ``until_left``: returns once the daemon has left a queue.
    """

    def __init__(
        self,
        shelf: Shelf,
        settings: Settings,
        place: Callable[[], Place],
        session_of: Callable[[str], Session | None],
        until_left: Callable[[str], Awaitable[None]],
    ) -> None:
        self._shelf = shelf
        self._settings = settings
        self._place = place
        self._session_of = session_of
        self._until_left = until_left

    async def accept(self, document: Queue, again: Again, *, anonymous: bool) -> None:
        """Take it in; it has its id. Nobody else takes a queue up meanwhile.

        Raises ConflictError for another document than the one that is there, UsageError,
        LockedError, StateError.
        """
        queue_id = _id(document)
        session = self._session_of(queue_id)
        if session is not None and again is Again.RETRY_FAILED:
            await self._check_same(document)
            await session.engine.request(ev.RetryRequested(session.engine.now()))
            return
        if session is not None and again in (Again.FRESH, Again.UPDATE):
            # The queue's loop takes it up again afterwards, and adopts what goes on.
            session.engine.detach()
            await self._until_left(queue_id)
        elif session is not None:
            await self._check_same(document)
            return
        lock = self._shelf.lock(queue_id, "runner daemon")
        try:
            await self._accept_resting(document, again, anonymous=anonymous)
        finally:
            lock.release()

    async def _accept_resting(self, document: Queue, again: Again, *, anonymous: bool) -> None:
        shelf, settings, place = self._shelf, self._settings, self._place()
        queue_id = _id(document)
        if shelf.exists(queue_id) and again is Again.FRESH:
            await end_attempts(shelf, settings, queue_id, place)
            shelf.set_aside(queue_id)
        if not shelf.exists(queue_id):
            anew = again is Again.FRESH
            await asyncio.to_thread(
                shelf.create, document, "daemon", anonymous=anonymous, anew=anew
            )
            return
        if (why := shelf.find(queue_id).meta.get(TAKEN_OVER)) is not None:
            hint = "--fresh begins anew here, and takes the store back"
            raise ConflictError(f"queue '{queue_id}' is another machine's: {why}\n{hint}")
        if again is Again.UPDATE:
            await asyncio.to_thread(update, shelf, document)
        else:
            await self._check_same(document)
        shelf.give_to(queue_id, "daemon")
        if again is Again.RETRY_FAILED:
            apply_resting(shelf, settings, queue_id, place, ev.RetryRequested)

    async def _check_same(self, document: Queue) -> None:
        """In a thread: reading the stored document again takes seconds if it is large."""
        await asyncio.to_thread(self._shelf.check_same, document)


def _id(document: Queue) -> str:
    assert document.queue_id is not None
    return document.queue_id
