"""Why nothing new may start for now: something is to be known first, or the disk is full."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

from runner.core import events as ev
from runner.core.scheduler import Scheduler
from runner.engine.clock import now
from runner.engine.disk_space import Space

NOT_LOOKED = "looks first whether the machine is about to be taken away"
NOT_ASKED = "asks the result store first whether another machine works on the queue"
_LOOKING = (NOT_LOOKED, NOT_ASKED)


class StartBlocks:
    """Of one session. ``wake`` has the engine take another step."""

    def __init__(self, space: Space, wake: Callable[[], None]) -> None:
        self._space = space
        self._wake = wake
        self._until: list[tuple[asyncio.Future[None], str]] = []

    def wait_for(self, until: asyncio.Future[None] | None, why: str) -> None:
        """Start nothing until this is done; ``why`` is told meanwhile."""
        if until is not None and not until.done():
            self._until.append((until, why))
            # By the loop, after what was posted before: that is handled in a step of its own.
            until.add_done_callback(lambda _: self._wake())

    def news(self, scheduler: Scheduler) -> Iterator[ev.StartsBlocked]:
        """What the scheduler has to be told, if it was told something else before."""
        (why, space), told = self._why_not(), scheduler.blocked
        # How full the disk is changes all the time; that it is full is told once.
        other = told in _LOOKING or space is not scheduler.short_of_space
        if bool(why) is not bool(told) or (other and why != told):
            yield ev.StartsBlocked(now(), why, space)

    def _why_not(self) -> tuple[str | None, bool]:
        """Why nothing may start now, and whether that is for want of space."""
        for until, why in self._until:
            if not until.done():
                return why, False
        try:
            shortage = self._space.shortage()
        except OSError as error:
            return f"the disk does not tell its free space: {error.strerror}", False
        return shortage, shortage is not None
