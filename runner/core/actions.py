"""What the scheduler wants done. Imperative; carried out only after the step is durable."""

from __future__ import annotations

from dataclasses import dataclass

from runner.core.states import NoticeState, QueueStatus


@dataclass(frozen=True, slots=True)
class StartAttempt:
    """Run the job's command as attempt ``attempt``, in record slot ``slot``, under ``token``.

    ``previous`` is the attempt whose logs are the newest so far, 0 when there are none.
    """

    job: int
    attempt: int
    token: str
    slot: int
    previous: int


@dataclass(frozen=True, slots=True)
class SignalTree:
    """Send SIGTERM, or SIGKILL, to the attempt's whole tree."""

    job: int
    token: str
    slot: int
    kill: bool


@dataclass(frozen=True, slots=True)
class EndBackground:
    """End what the job left in the background: SIGTERM, a moment, SIGKILL."""

    job: int
    token: str
    slot: int


@dataclass(frozen=True, slots=True)
class CollectResults:
    """Store the job's logs and, if it completed, its result files."""

    job: int


@dataclass(frozen=True, slots=True)
class RestoreOutputs:
    """See whether the job's declared results are still there, and bring back what is gone.

    ``rebooted``: the disk may have come back empty or half written, so only the store can tell.
    """

    job: int
    rebooted: bool


@dataclass(frozen=True, slots=True)
class FetchInputs:
    """Bring the job's inputs, and after a boot its checkpoint, to where it will look for them."""

    job: int


@dataclass(frozen=True, slots=True)
class SaveCheckpoint:
    """Store what an interrupted attempt has saved, before the machine goes."""

    job: int


@dataclass(frozen=True, slots=True)
class SendNotice:
    """Tell a target of an event, however often it has to be tried."""

    notice: NoticeState


@dataclass(frozen=True, slots=True)
class KeepFingerprint:
    """Keep what a completed job depended on, and made, so that a later run may leave it out."""

    job: int


@dataclass(frozen=True, slots=True)
class FinishQueue:
    """Nothing is left to do: the queue has ended, or is interrupted and may be resumed."""

    status: QueueStatus


Action = (
    StartAttempt
    | SignalTree
    | EndBackground
    | CollectResults
    | RestoreOutputs
    | FetchInputs
    | SaveCheckpoint
    | SendNotice
    | KeepFingerprint
    | FinishQueue
)
