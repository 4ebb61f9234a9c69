"""Where attempts run: what an engine asks of that place, and hears of it.

Behind it are the processes of this machine (``attempts``) and the simulated ones (``simulated``).
All that comes of an attempt is posted as an event of the core; nothing is returned, and nothing
here decides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from runner.core import events as ev
from runner.core.actions import StartAttempt
from runner.core.scheduler import Scheduler
from runner.engine.surroundings import Surroundings


class AttemptBackend(Protocol):
    """The attempts of one session. All is called on the session's loop, but for ``join``.

    It posts AttemptStarted, AttemptEnded, AttemptVoided, BackgroundEnded, StrayEnded, and once
    SurvivorsTold.
    """

    @property
    def boot_id(self) -> str:
        """Names the life of the place: an attempt of another life is gone with it."""

    @property
    def all_found(self) -> bool:
        """Whether SurvivorsTold has been posted."""

    def warm_up(self) -> None:
        """Make ready for the first start, if there is something to make ready."""

    def start(self, action: StartAttempt) -> None:
        """Start what was intended. The intent is durable."""

    def signal(self, job: int, token: str, slot: int, kill: bool) -> None:
        """End an attempt, in an orderly way or (``kill``) at once. The reason is durable."""

    def end_background(self, job: int, token: str) -> None:
        """End what a job has left running in the background."""

    def newest_start(self) -> int:
        """The highest number of a start of this run that the place knows of; 0 for none."""

    def find_survivors(self) -> None:
        """Account for every attempt of the session before; end what the state knows nothing of."""

    def survivors_may_be_told(self) -> None:
        """From now on SurvivorsTold may be posted: what must come before it has been."""

    def ended_already(self, moment: ev.Now) -> Iterator[ev.CommandEnded]:
        """Commands that have ended before this moment and aren't told yet. Raises OSError."""

    def stop(self) -> None:
        """Let go: what runs goes on."""

    def join(self) -> None:
        """Wait for what is under way, and give back every descriptor. Blocks; after ``stop``."""


Post = Callable[[ev.Event], None]

MakeBackend = Callable[[Surroundings, Scheduler, Post, Callable[[], bool]], AttemptBackend]
"""Makes the backend of a session; the last tells whether the disk is short of space."""
