"""The places of a FailoverTarget: each a target of its own, opened when it can be, away or not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from runner.api.capabilities import NOTHING_SAID, Capabilities
from runner.api.failover import PlaceView
from runner.api.job_target import JobListener, JobTarget
from runner.aws.errors import AwsError, ErrorKind
from runner.errors import DiskError, UnreachableError
from runner.results.store import RefusedError, StoreError

FIRST_PAUSE = 2.0
LONGEST_PAUSE = 60.0
"""Seconds until a place is tried again that could not be reached: twice as many each time."""

TRIAL = 3.0
"""Seconds after a place has come back in which one job alone is given to it."""

_PASSING = frozenset({ErrorKind.PASSING, ErrorKind.EXPIRED, ErrorKind.NO_CREDENTIALS})


class JobStage(Enum):
    """KEPT: no place has it. SENT: a place has it. STARTED: it runs there, or has run."""

    KEPT = "kept"
    SENT = "sent"
    STARTED = "started"


@dataclass(slots=True)
class FailoverJob:
    """A job that hasn't ended. ``turn``: how often it was taken back from a place; ``busy``: a
    thread is about to send it, to take it back or to cancel it; ``recalled``: an end that its place
    tells now is our own taking back. ``followed``: the listener wants to hear of it."""

    function: bool
    capabilities: Capabilities = NOTHING_SAID
    stage: JobStage = JobStage.KEPT
    place: FailoverPlace | None = None
    turn: int = 0
    busy: bool = False
    recalled: bool = False
    followed: bool = True


@dataclass(slots=True)
class FailoverPlace:
    """``open`` makes its target, and raises what that raises; ``reserve``: see PlaceView. Times are
    monotonic seconds."""

    name: str
    region: str | None
    open: Callable[[JobListener], JobTarget]
    reserve: bool = False
    target: JobTarget | None = None
    load: int = 0
    waiting: dict[str, FailoverJob] = field(default_factory=dict)
    """What was there before this session, and is looked for once it is opened."""
    why: str = "it was not opened yet"
    _until: float = 0.0
    _tries: int = 0
    _was_away: bool = False
    _trial_until: float = 0.0
    _trial_left: int = 0

    def gone(
        self, capabilities: Capabilities = NOTHING_SAID, *, function: bool = False
    ) -> str | None:
        """Why it can't be had; None: it is there."""
        if self.target is None:
            return self.why
        return self.target.away(capabilities, function=function)

    def away(
        self, now: float, capabilities: Capabilities = NOTHING_SAID, *, function: bool = False
    ) -> str | None:
        """Why nothing is given to it now, if only for a moment; None: it takes a job."""
        why = self.gone(capabilities, function=function)
        if why is None and now < self._until:
            why = self.why
        if why is not None:
            self._was_away = True
            return why
        if self._was_away:
            self._was_away = False
            self._trial_until, self._trial_left = now + TRIAL, 1
        if now < self._trial_until and not self._trial_left:
            return "it has just come back, and one job is tried first"
        return None

    def view(self, capabilities: Capabilities, now: float | None, *, function: bool) -> PlaceView:
        """As a call sees it; ``now`` None: one that can wait a moment."""
        if self.target is not None:
            refusal = self.target.refusal(capabilities, function=function)
        elif capabilities.region not in (None, self.region):
            refusal = f'"region": "{self.name}" is in {self.region}, not {capabilities.region}'
        else:
            refusal = None
        if now is None:
            away = self.gone(capabilities, function=function)
        else:
            away = self.away(now, capabilities, function=function)
        return PlaceView(self.name, refusal, away, self.load, self.reserve)

    def given(self, now: float) -> None:
        """A job is given to it."""
        if now < self._trial_until:
            self._trial_left = 0

    def opens(self, now: float) -> bool:
        """Whether it is to be opened now."""
        return self.target is None and now >= self._until

    def failed(self, error: Exception, now: float) -> None:
        """It could not be reached: not before a while."""
        self._tries += 1
        self._until = now + min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (self._tries - 1))
        self.why = str(error)

    def opened(self, target: JobTarget) -> None:
        """It is there."""
        self.target = target
        self._tries, self._until = 0, 0.0


def may_pass(error: Exception) -> bool:
    """Whether what could not be done may be another time."""
    if isinstance(error, AwsError):
        return error.kind in _PASSING
    if isinstance(error, RefusedError):
        return False
    return isinstance(error, StoreError | DiskError | UnreachableError)


def inner_id(job_id: str, turn: int) -> str:
    """The id that a job has at its place: of a place that gave it back the old one is used up."""
    return f"{job_id}.{turn}" if turn else job_id
