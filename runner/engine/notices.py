"""A session's notices on their way to whoever sends them, and whether anything makes progress.

Owns how long the end of a session waits for receivers, and what counts as progress: a job that
starts or ends, and what a running job writes to its log. Trying again is the courier's business.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from runner.core import events as ev
from runner.core.notice_forms import Message
from runner.core.scheduler import Scheduler, StoryEntry
from runner.core.states import QUEUE_ENDED, NoticeState, QueueStatus
from runner.engine.clock import now
from runner.engine.context import EngineContext

LOOK_EVERY = 60.0
"""Seconds between two looks at whether anything goes on, at most; a tenth of the shortest limit."""

_NO_PROGRESS = frozenset({"notice_told", "notice_delayed", "notice_given_up", "queue_stuck"})


class Notices:
    """Of one session. ``post`` takes what comes of it. All but the courier's calls on the loop."""

    def __init__(
        self, context: EngineContext, scheduler: Scheduler, post: Callable[[ev.Event], None]
    ) -> None:
        self._context = context
        self._scheduler = scheduler
        self._post = post
        self._courier = context.courier
        self._loop = asyncio.get_running_loop()
        self._targets = {target.label: target.to for target in scheduler.targets or ()}
        self._waited_for: set[tuple[str, str]] = set()
        self._changed = asyncio.Event()
        self._impatient = False
        self._closing = threading.Lock()
        self._closed = False
        self._limits = sorted({t.stuck_after for t in scheduler.targets or () if t.stuck_after})
        self._told: set[float] = set()
        self._progress = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        if self._limits and self._courier is not None:
            self._look_later()

    # -- sending -----------------------------------------------------------------------------

    def send(self, notice: NoticeState) -> None:
        """The line of the outbox is durable: have it told."""
        if self._courier is None:
            return
        target = self._targets.get(notice.to)
        if target is None:
            gone = "it is no target of the document or the settings any more"
            self._post(ev.NoticeTried(now(), notice.id, notice.to, gone, final=True))
            return
        key = (notice.id, notice.to)
        self._waited_for.add(key)
        store = self._context.results
        message = Message(
            notice,
            self._context.queue_id,
            self._scheduler.document.queue_name,
            self._scheduler.queue.run_id,
            None if store is None else store.describe(),
        )

        def tried(error: str | None, final: bool, hopeless: bool) -> bool:
            with self._closing:
                if self._closed:
                    return False
                done = error is None or final or hopeless
                with suppress(RuntimeError):  # the loop is gone
                    self._loop.call_soon_threadsafe(self._on_tried, key, error, final, done)
                    return True
                return False

        self._courier.send(str(self._context.paths.root.name), target, message, tried)

    def _on_tried(self, key: tuple[str, str], error: str | None, final: bool, done: bool) -> None:
        self._post(ev.NoticeTried(now(), *key, error, final))
        if done:
            self._waited_for.discard(key)
            self._changed.set()

    async def settle(self, status: QueueStatus, until: float) -> None:
        """Wait for receivers, not for long, and until then (the loop's time) at most; what is told
        afterwards is not this session's."""
        if self._courier is not None:
            until = min(until, self._loop.time() + self._courier.wait(status))
        while self._waited_for and not self._impatient and (left := until - self._loop.time()) > 0:
            self._changed.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), left)
        if self._courier is not None and status in QUEUE_ENDED and self._context.results:
            self._courier.ended(self._context.paths.root.name, self._context.results.describe())
        with self._closing:
            self._closed = True
        # What was told just before comes into the inbox now.
        await asyncio.sleep(0)

    def give_up_waiting(self) -> None:
        """Somebody wants the session to end now."""
        self._impatient = True
        self._changed.set()

    # -- progress ----------------------------------------------------------------------------

    def noticed(self, story: list[StoryEntry]) -> None:
        """These lines of the story are durable: is one of them progress?"""
        if self._limits and any(entry.event not in _NO_PROGRESS for entry in story):
            self._progress = self._loop.time()
            self._told.clear()

    def _look_later(self) -> None:
        every = min(LOOK_EVERY, self._limits[0] / 10)
        self._timer = self._loop.call_later(every, self._look)

    def _look(self) -> None:
        self._look_later()
        quiet = min(self._loop.time() - self._progress, self._quiet_logs())
        self._told = {limit for limit in self._told if limit <= quiet}
        for limit in self._limits:
            if limit <= quiet and limit not in self._told:
                self._told.add(limit)
                self._post(ev.NoProgress(now(), limit))

    def _quiet_logs(self) -> float:
        """Seconds since a running job wrote to its log, as far as logs are here."""
        newest = 0.0
        for index in self._scheduler.live:
            name = self._scheduler.document.jobs[index].job_id
            for stream in ("stdout", "stderr"):
                with suppress(OSError):
                    newest = max(newest, os.stat(self._context.logs.newest(name, stream)).st_mtime)
        return max(0.0, time.time() - newest)

    def stop(self) -> None:
        """Begin nothing more."""
        if self._timer is not None:
            self._timer.cancel()
        with self._closing:
            self._closed = True
