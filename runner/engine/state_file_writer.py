"""Keeping ``queue-state.json`` at most so old: rendered in slices, written in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from functools import partial

from runner.core.scheduler import Scheduler
from runner.engine.context import EngineContext
from runner.errors import DiskError
from runner.store.projection import Projection, write_projection

SOON = 0.1
"""Seconds a first change waits for its company, and for the starts that it goes with."""


class StateFileWriter:
    """The projection of one session. ``error`` is why it couldn't be written, if so.

    ``written`` is called each time it has been, but for the last.
    """

    def __init__(
        self, context: EngineContext, scheduler: Scheduler, written: Callable[[], None]
    ) -> None:
        self.error: str | None = None
        self._context = context
        self._written = written
        self._scheduler = scheduler
        self._loop = asyncio.get_running_loop()
        self._projection = self._anew()
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._stale = False
        self._stopped = False
        self._begun = float("-inf")

    def _anew(self) -> Projection:
        scheduler = self._scheduler
        name, arrays = scheduler.document.queue_name, scheduler.graph.arrays
        return Projection(self._context.queue_id, name, scheduler.names, arrays)

    def changed(self, jobs: Iterable[int], *, grown: bool = False) -> None:
        """Have the file written anew soon; a change during the writing has it written again.

        ``grown``: the queue has got jobs.
        """
        if grown and self._scheduler.arrays:
            self._projection = self._anew()
        elif grown:
            self._projection.grow()
        for index in jobs:
            self._projection.touch(index)
        self._stale = True
        if self._timer is None and self._task is None and not self._stopped:
            interval = self._context.projection_interval
            due = max(self._loop.time() + min(SOON, interval), self._begun + interval)
            self._timer = self._loop.call_at(due, self._begin)

    def _begin(self) -> None:
        self._timer = None
        self._begun = self._loop.time()
        self._task = self._loop.create_task(self._write_and_look())

    async def _write_and_look(self) -> None:
        try:
            await self._write()
            self._written()
        except Exception as error:
            self.error = _as_trouble(error)
        self._task = None
        if self._stale:
            self.changed(())

    async def _write(self) -> list[bytes]:
        self._stale = False
        scheduler = self._scheduler
        write = partial(write_projection, durable=self._context.paths.durable)
        path = self._context.paths.projection
        for pieces in self._projection.render(scheduler.queue, list(scheduler.jobs)):
            if pieces is None:
                await asyncio.sleep(0)
                continue
            try:
                await self._loop.run_in_executor(None, write, path, pieces)
                self.error = None
            except DiskError as error:
                # The truth is in the database; this is written again with the next change.
                self.error = str(error)
            except Exception as error:
                self.error = _as_trouble(error)
            return pieces
        raise AssertionError("a projection that never ends")

    async def finish(self) -> bytes:
        """Write it exactly, for the last time; returns what was, or would have been, written."""
        self.stop()
        if self._task is not None:
            await self._task
        return b"".join(await self._write())

    def write_now(self) -> None:
        """Write it exactly, in one go. Raises DiskError."""
        write_projection(self._context.paths.projection, [self.rendered()])

    def rendered(self) -> bytes:
        """The file's content as of this moment."""
        scheduler = self._scheduler
        *_, pieces = self._projection.render(scheduler.queue, scheduler.jobs)
        assert pieces is not None
        return b"".join(pieces)

    def stop(self) -> None:
        """Begin no more writing by itself."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _as_trouble(error: Exception) -> str:
    """A bug, or no thread: told, and with the next change it is tried again."""
    return f"queue-state.json: internal error: {type(error).__name__}: {error}"
