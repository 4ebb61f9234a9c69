"""What can happen to a queue. Past tense; every event brings the time it happened at.

The core never asks for the time, draws no random number and looks at no process: all that it
needs to know comes in one of these.
"""

from __future__ import annotations

from dataclasses import dataclass

from runner.core.input_events import InputsChanged as InputsChanged
from runner.core.input_events import InputsDelayed as InputsDelayed
from runner.core.input_events import InputsFetched as InputsFetched
from runner.core.intake import FanOut as FanOut
from runner.core.intake import IntakeChanged as IntakeChanged
from runner.core.intake import JobsAdded as JobsAdded
from runner.core.outcomes import Exited as Exited
from runner.core.outcomes import Lost as Lost
from runner.core.outcomes import NotRunnable as NotRunnable
from runner.core.outcomes import Now as Now
from runner.core.outcomes import Outcome as Outcome
from runner.core.outcomes import Signalled as Signalled
from runner.core.outcomes import Usage as Usage


@dataclass(frozen=True, slots=True)
class SessionOpened:
    """A process took the queue up: anew, or after a stop, a crash or a boot.

    ``collects``: there is a result store; ``new_store``: what earlier sessions stored isn't in it.
    ``resting``: no process works on it, only a request is applied: what has to be looked at after a
    boot is noted for the next session.
    """

    now: Now
    boot_id: str
    collects: bool
    new_store: bool = False
    resting: bool = False


@dataclass(frozen=True, slots=True)
class StateWentBack:
    """The stored state is older than one that was durable: its log was lost, or a copy restored.

    ``lost``: so many lines of the story are known to be missing. ``starts``: at least so many
    starts were intended, as the record of attempts shows. ``brought_back``: what the lost steps
    came to is known from queue-state.json, and in the records again.
    """

    now: Now
    lost: int
    starts: int
    brought_back: bool = False


@dataclass(frozen=True, slots=True)
class StrayEnded:
    """An attempt that the state knows nothing of was found alive, and is gone now."""

    now: Now
    token: str
    pid: int | None


@dataclass(frozen=True, slots=True)
class SurvivorsTold:
    """Every attempt of the session before has been accounted for: work may begin."""

    now: Now


@dataclass(frozen=True, slots=True)
class AttemptStarted:
    """The attempt is claimed and its command started; also: adopted alive.

    ``keeps_time``: where it runs it is ended when its time is over, and that is told by its end.
    """

    now: Now
    job: int
    token: str
    pid: int | None
    since: float
    adopted: bool = False
    keeps_time: bool = False


@dataclass(frozen=True, slots=True)
class AttemptVoided:
    """The start never came about, and never will: it costs no attempt.

    With ``delay`` seconds (and the reason why) it is tried again no sooner. ``error``: it can never
    be started, for this: its job has failed, as for want of an input here.
    """

    now: Now
    job: int
    token: str
    reason: str | None = None
    delay: float = 0.0
    error: str | None = None


@dataclass(frozen=True, slots=True)
class ResultsSetAside:
    """So many files of earlier runs or attempts were moved out of a job's way, before it starts."""

    now: Now
    job: int
    files: int


@dataclass(frozen=True, slots=True)
class CommandEnded:
    """The command has ended by itself, before what comes after this event; its tree still goes."""

    now: Now
    job: int
    token: str


@dataclass(frozen=True, slots=True)
class AttemptEnded:
    """The command ended and its tree is gone (or is kept in the background on purpose).

    ``ended_at`` is wall time, ``duration`` seconds, ``draw`` a number in [0, 1) for the jitter,
    ``usage`` None if nobody could count, ``short_of_space``: the disk was, at this end.
    ``timed_out``: where it ran it was ended, for its time was over. ``stands``: its end was on
    record before a stop of ours could be, whatever was decided here meanwhile. ``fan_out``: of a
    job that expands, and whose command succeeded.
    """

    now: Now
    job: int
    token: str
    outcome: Outcome
    ended_at: float | None = None
    duration: float | None = None
    draw: float = 0.0
    background: bool = False
    usage: Usage | None = None
    short_of_space: bool = False
    timed_out: bool = False
    stands: bool = False
    fan_out: FanOut | None = None


@dataclass(frozen=True, slots=True)
class BackgroundEnded:
    """What a job had left running in the background is gone."""

    now: Now
    job: int
    token: str


@dataclass(frozen=True, slots=True)
class ResultsStored:
    """The uploader is done with a job: ``ok``, and what there is to complain about.

    ``missing``: some of what the job declared isn't stored, though all that there is was.
    ``stale``: the result files that are older than the job's first start.
    """

    now: Now
    job: int
    ok: bool
    error: str | None
    missing: bool = False
    stale: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ResultsDelayed:
    """A job's files aren't stored yet: ``error`` says why, and it is tried again.

    ``spooled``: copies of them are safe on this machine, so who waits for them may go on.
    """

    now: Now
    job: int
    error: str | None
    spooled: bool = False


@dataclass(frozen=True, slots=True)
class OutputsChecked:
    """A completed job's declared results were looked at after a boot.

    ``restored``: how many files were brought back. ``lost``: why some can't be, else None.
    """

    now: Now
    job: int
    restored: int = 0
    lost: str | None = None


@dataclass(frozen=True, slots=True)
class CheckpointSaved:
    """What an interrupted attempt had saved is stored, as so many files; or isn't, and why."""

    now: Now
    job: int
    files: int = 0
    size: int = 0
    error: str | None = None


@dataclass(frozen=True, slots=True)
class StoreClaimed:
    """The result store knows that this run, and this machine, writes to it; ``epoch`` grows."""

    now: Now
    epoch: int


@dataclass(frozen=True, slots=True)
class TimerFired:
    """The earliest deadline may have passed."""

    now: Now


@dataclass(frozen=True, slots=True)
class StartsBlocked:
    """Nothing can be started for a while; None when it can again.

    ``space``: because the disk is short of it, which what is started may change.
    """

    now: Now
    reason: str | None
    space: bool = False


@dataclass(frozen=True, slots=True)
class CancelRequested:
    """A person wants these jobs (None: the whole queue) to end.

    ``waiting_only``: of these jobs those that run are left alone.
    """

    now: Now
    jobs: tuple[int, ...] | None = None
    waiting_only: bool = False


@dataclass(frozen=True, slots=True)
class RetryRequested:
    """A person wants these jobs (None: all that failed, were skipped or cancelled) again.

    ``completed``: also those of them that have completed. ``dependants``: with all that depends
    on them; otherwise only with what was skipped, or waits for any end, behind them.
    """

    now: Now
    jobs: tuple[int, ...] | None = None
    completed: bool = False
    dependants: bool = False


@dataclass(frozen=True, slots=True)
class PauseRequested:
    """A person wants nothing new to start (``paused``), or work to go on."""

    now: Now
    paused: bool


@dataclass(frozen=True, slots=True)
class PartChosen:
    """This session starts these jobs only, and ends when nothing of them can go on."""

    now: Now
    jobs: frozenset[int]


@dataclass(frozen=True, slots=True)
class ReleaseRequested:
    """A person lets these jobs start, which the document holds, now or when it is their turn."""

    now: Now
    jobs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class InterruptRequested:
    """The service or the machine is to stop in an orderly way; at most ``grace`` seconds.

    ``taken_over``: another machine works on the queue.
    """

    now: Now
    reason: str
    grace: float | None = None
    taken_over: bool = False


@dataclass(frozen=True, slots=True)
class SpotNotice:
    """The machine is to be taken away at ``deadline`` (wall seconds): nothing new starts.

    What runs is ended ``lead`` seconds before it; None: at once. Without a deadline it is only
    likely to be taken away, and what runs goes on to its end.
    """

    now: Now
    reason: str
    deadline: float | None = None
    lead: float | None = None


@dataclass(frozen=True, slots=True)
class KillRequested:
    """No more grace: what is being ended is to be killed now."""

    now: Now


@dataclass(frozen=True, slots=True)
class NoProgress:
    """Nothing has started, ended or been written to a log for so many seconds."""

    now: Now
    seconds: float


@dataclass(frozen=True, slots=True)
class NoticeTried:
    """A notice was sent to a target; ``error``: why that failed, ``final``: for good."""

    now: Now
    id: str
    to: str
    error: str | None = None
    final: bool = False


Event = (
    SessionOpened
    | StateWentBack
    | StrayEnded
    | SurvivorsTold
    | AttemptStarted
    | AttemptVoided
    | ResultsSetAside
    | CommandEnded
    | AttemptEnded
    | BackgroundEnded
    | ResultsStored
    | ResultsDelayed
    | OutputsChecked
    | InputsFetched
    | InputsChanged
    | InputsDelayed
    | CheckpointSaved
    | StoreClaimed
    | TimerFired
    | StartsBlocked
    | CancelRequested
    | RetryRequested
    | PauseRequested
    | JobsAdded
    | IntakeChanged
    | ReleaseRequested
    | PartChosen
    | InterruptRequested
    | SpotNotice
    | KillRequested
    | NoProgress
    | NoticeTried
)
