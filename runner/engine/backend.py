"""Where attempts run: the port between an engine and the processes, containers or simulation.

Owns the protocol ``AttemptBackend``. Behind it are the processes of this machine
(``process_backend``) and simulated ones (``simulated_backend``). A backend reports by posting
events of the core; its methods return before an attempt has started or ended, and it decides
nothing: retries, order and the reason of an end are the scheduler's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from runner.core import events as ev
from runner.core.actions import StartAttempt


class AttemptBackend(Protocol):
    """The attempts of one session. Every method but ``join`` is called on the session's loop, and
    none but ``join`` blocks.

    - **Start**: ``start`` ends in one AttemptStarted once the command runs, or one AttemptVoided if
      it never will: that costs no attempt.
    - **Adopt**: ``find_survivors`` accounts for the attempts of the session before. One that runs
      is told by AttemptStarted with ``adopted``; one that ended meanwhile by its AttemptEnded; one
      that the state doesn't know is ended, and told by StrayEnded. SurvivorsTold comes last, once.
    - **Signal**: ``signal`` and ``end_background`` ask for an end. It comes as an event like any
      other; a repeated or late request does no harm.
    - **Collect**: AttemptEnded, with the outcome, the wall time of the end, the duration and the
      usage; it comes when no process of the attempt is left, or only those that the job keeps in
      the background on purpose, whose end is BackgroundEnded.

    A backend can tell how a command ended and when, also of one that ended while no session was
    there. It can't always tell the usage (None), nor the exit code of an attempt that went with its
    boot or whose record is lost: the outcome says so (``core/events``). Where a session
    crashes before an event is stored, the next session is told again, with the same token.
    """

    @property
    def boot_id(self) -> str:
        """Names one life of the place, such as a boot. No attempt of another life still runs."""

    @property
    def all_found(self) -> bool:
        """Whether SurvivorsTold has been posted."""

    def warm_up(self) -> None:
        """Prepare for the first start, if that makes it quicker."""

    def start(self, action: StartAttempt) -> None:
        """Start an attempt. Its intent is durable, so that a crash from here on is found again by
        its token."""

    def signal(self, job: int, token: str, slot: int, kill: bool) -> None:
        """End an attempt with all its processes: by SIGTERM, or with ``kill`` by SIGKILL. The
        reason is durable. ``slot`` is the one that ``start`` was given."""

    def end_background(self, job: int, token: str) -> None:
        """End the processes that a job has left running in the background."""

    def newest_start(self) -> int:
        """The highest number of a start of this run that the place knows; 0 for none."""

    def find_survivors(self) -> None:
        """Adopt: account for every attempt of the session before, and end the ones that the state
        doesn't know. The results come as events."""

    def survivors_may_be_told(self) -> None:
        """From now on SurvivorsTold may be posted: the events that must come before it have."""

    def ended_already(self, moment: ev.Now) -> Iterator[ev.CommandEnded]:
        """Collect early: the commands that have ended before this moment though AttemptEnded is
        still to come, because some of their processes are not gone. Raises OSError."""

    def stop(self) -> None:
        """Post nothing more and let go. Attempts that run go on."""

    def join(self) -> None:
        """Wait for what is under way and close every descriptor. Blocks; called after ``stop``."""


Post = Callable[[ev.Event], None]
