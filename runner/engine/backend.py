"""Where attempts run: the port between an engine and the processes, containers or simulation.

Owns the protocols ``AttemptBackend`` and ``AttemptFiles``. Behind them are the processes of this
machine (``process_backend``) and simulated ones (``simulated_backend``). A backend reports by
posting events of the core; its methods return before an attempt has started or ended, and it
decides nothing: retries, order and the reason of an end are the scheduler's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from runner.core import events as ev
from runner.core.actions import StartAttempt
from runner.core.states import QueueStatus
from runner.engine.call_threads import CallThreads


class StoreOwnership(Protocol):
    """Whether the queue's result store is ours to write to."""

    def own(self) -> int:
        """The epoch in which it is. Blocks, in any thread. Raises StoreError; SucceededError where
        another machine has it now, for good."""

    async def discard_unfinished(self, threads: CallThreads) -> None:
        """All is stored: end what killed sessions left unfinished in the store."""


class AttemptFiles(Protocol):
    """How the files of a session's jobs travel: inputs to where a job runs, results, logs and
    checkpoints from there to the store. All but ``join`` and ``bring_log`` are called on the
    session's loop, and don't block. What comes of it is posted as events.
    """

    @property
    def gave_up(self) -> bool:
        """Whether nothing came further for so long that files were left for later."""

    def wake(self) -> None:
        """A step was taken: what is under way may not be wanted any more, or more may be."""

    def collect(self, job: int) -> None:
        """See that a job's logs, and its results if it completed, are in the store, as its record
        stands now: one ResultsStored, and ResultsDelayed as long as it takes. Nothing without a
        store."""

    def restore_outputs(self, job: int, *, rebooted: bool) -> None:
        """See that a completed job's results are where its dependants will look for them: one
        OutputsChecked. ``rebooted``: only a store can tell. Nothing without a store."""

    def fetch_inputs(self, job: int) -> None:
        """See that a job finds its inputs, and after a boot its checkpoint: one InputsFetched, and
        InputsDelayed as long as it takes."""

    def save_checkpoint(self, job: int) -> None:
        """See that what an interrupted attempt has saved is in the store: one CheckpointSaved.
        Nothing without a store."""

    def keep_fingerprint(self, job: int) -> None:
        """See that it is known of a completed job what it depended on, and made. Nothing where
        that can't be looked at."""

    def bring_log(self, job: int, attempt: int) -> None:
        """Have here what an attempt has written, as far as it can be had by now. Blocks; in any
        thread. Nothing where jobs write their logs here."""

    async def finish(self, status: QueueStatus, until: float) -> None:
        """At the end of a session: what is still to be stored is, by the loop's time ``until``."""

    async def let_go(self) -> None:
        """After the session's last words: end what is under way, the next session goes on."""

    def stop(self) -> None:
        """Begin nothing more, and have what is under way end."""

    def join(self) -> None:
        """Wait for what is under way. Blocks; called after ``stop``."""


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

    def files(self, ownership: StoreOwnership | None) -> AttemptFiles:
        """Makes what carries the files of its attempts. Called once. None: there is no store."""

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
