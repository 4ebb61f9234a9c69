"""The queue's story on its way to the store, beside the state: so that what happened on a machine
is known when the machine is gone.

Owns what of it is stored already. Called in the thread that stores the state.
"""

from __future__ import annotations

import asyncio
from contextlib import closing

from runner.engine.context import EngineContext
from runner.results.layout import Layout
from runner.results.stored_events import StoredEvent, last_stored, put_events
from runner.store.database import Database

EVERY = 30.0
"""Seconds between two parts while the queue runs, at least: each is a request."""

AT_ONCE = 5_000
"""Events of a part, at most: about a megabyte."""


class EventUploads:
    """The story of one run, as the database of this state folder has it."""

    def __init__(self, context: EngineContext, run_id: str) -> None:
        assert context.results is not None
        self._store = context.results
        self._database = context.paths.database
        self._run_id = run_id
        self._holder = context.holder(run_id)
        self._layout = Layout()
        self._stored: int | None = None
        self._due = 0.0
        self._loop = asyncio.get_running_loop()

    def put(self, *, last: bool) -> None:
        """Store what is new, if it is time to; with ``last`` in any case. Raises StoreError.

        In a folder of this machine the story is stored once, when a session ends: nobody needs it
        there before.
        """
        if not last and (self._store.local_folder is not None or self._loop.time() < self._due):
            return
        with closing(Database(self._database, read_only=True)) as database:
            if self._stored is None:
                # A database that went back in time counts from there again.
                stored = last_stored(self._store, self._layout, self._run_id, self._holder)
                self._stored = min(stored, database.last_event())
            while rows := database.events_after(self._stored, AT_ONCE):
                events = [StoredEvent(**row) for row in rows]
                put_events(self._store, self._layout, self._run_id, self._holder, events)
                self._stored = events[-1].seq
        self._due = self._loop.time() + EVERY

    def forget(self) -> None:
        """What was stored is gone: all of it is stored again."""
        self._stored, self._due = 0, 0.0
