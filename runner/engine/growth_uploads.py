"""The jobs that were added to a queue, on their way to its result store."""

from __future__ import annotations

from contextlib import closing

from runner.engine.context import EngineContext
from runner.results.layout import Layout
from runner.results.stored_growth import put_added
from runner.store.database import Database


class GrowthUploads:
    """Of one run, as the database of this state folder has it. Called in a thread."""

    def __init__(self, context: EngineContext, run_id: str) -> None:
        assert context.results is not None
        self._store = context.results
        self._database = context.paths.database
        self._run_id = run_id
        self._stored = 0

    def put(self) -> None:
        """Store what was added if there is more than before: no state tells of a job that another
        machine would know nothing of. Raises StoreError, DiskError, StateError."""
        with closing(Database(self._database, read_only=True)) as database:
            if database.count_added() > self._stored:
                added = database.added()
                put_added(self._store, Layout(), self._run_id, added)
                self._stored = len(added)

    def forget(self) -> None:
        """What was stored is gone: all of it is stored again."""
        self._stored = 0
