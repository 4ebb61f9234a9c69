"""The queue's own side of its result store: document, state, story, and the lease.

Owns when the document is stored, and the order of the last words. It knows nothing of jobs' files:
those are the business of the backend's ``AttemptFiles``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from runner.core import events as ev
from runner.core.scheduler import Scheduler
from runner.core.states import QueueStatus
from runner.engine.commits import FLUSH_AFTER
from runner.engine.context import EngineContext
from runner.engine.heartbeat import Heartbeat
from runner.engine.last_words import note_unstored
from runner.engine.state_uploads import StateUploads
from runner.results.claim import SucceededError
from runner.store.database import Database


class QueueUploads:
    """Of one session. ``on_succeeded`` is called once, on the loop, when another machine has taken
    the store over. ``state`` tells, in any thread, whether the store is ours."""

    def __init__(
        self,
        context: EngineContext,
        scheduler: Scheduler,
        database: Database,
        post: Callable[[ev.Event], None],
        on_succeeded: Callable[[SucceededError], None],
    ) -> None:
        assert context.results is not None
        self._store = context.results
        self._database = database
        self.state = StateUploads(context, scheduler, post)
        self._heartbeat: Heartbeat | None = None
        if context.heartbeat is not None and self._store.local_folder is None:
            self._heartbeat = Heartbeat(context, scheduler, self.state, context.heartbeat)
            self.state.stored = self._heartbeat.begin
            self.state.on_succeeded = on_succeeded
        self._loop = asyncio.get_running_loop()
        self._at_once = context.journal
        self._put_timer: asyncio.TimerHandle | None = None

    @property
    def error(self) -> str | None:
        """Why the last state isn't stored, if it isn't."""
        return self.state.error

    def look(self) -> asyncio.Future[None] | None:
        """Begin to look whose the store is: done when that is known. None: nobody else works on
        this queue."""
        if self._heartbeat is None:
            return None
        self._heartbeat.look()
        return self._heartbeat.first_look

    def put_document_soon(self) -> None:
        """Let the store know which queue it holds. Not now: of a large queue it takes as long as
        many jobs' starts; but where nothing starts before it, at once."""
        wait = 0.0 if self._at_once else FLUSH_AFTER
        self._put_timer = self._loop.call_later(wait, self._put_document)

    def _put_document(self) -> None:
        self._put_timer = None
        self.state.put_document(self._database.document())

    def changed(self) -> None:
        """queue-state.json has been written: have it stored."""
        self.state.changed()

    async def settle(self, until: float) -> None:
        """Begin nothing more by itself, by the loop's time ``until``."""
        if self._put_timer is not None:
            self._put_timer.cancel()
            self._put_document()
        await self.state.settle(until)

    async def put_last(self, state: bytes, until: float) -> None:
        """Store the session's last state."""
        await self.state.put_last(state, until)

    async def let_go(self, status: QueueStatus) -> None:
        """The session ends: note what isn't stored, and give the lease back."""
        note_unstored(self._database, self.state, status)
        if self._heartbeat is not None and status is not QueueStatus.RUNNING:
            await self._heartbeat.release()

    def stop(self) -> None:
        """Begin nothing more."""
        if self._put_timer is not None:
            self._put_timer.cancel()
        if self._heartbeat is not None:
            self._heartbeat.stop()
        self.state.stop()

    def join(self) -> None:
        """Wait for what is under way, and close the store. Blocks; after ``stop``."""
        if self._heartbeat is not None:
            self._heartbeat.join()
        self.state.join()
        self._store.close()
