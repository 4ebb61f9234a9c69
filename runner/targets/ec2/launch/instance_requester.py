"""Asking EC2 for a machine, until one is there or it is certain that there is none.

Owns doubt. A request whose answer was lost may have launched: from then on EC2's other answers say
nothing about it, a refusal of the same token included (credentials, quotas and throttling are
checked before the token is). Only a machine that bears the token, or EC2's not knowing any for as
long as a new one may stay unseen, ends the doubt; nothing else is asked for before.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Any

from runner.aws.ec2 import Ec2, Machine
from runner.aws.errors import AwsError, ErrorKind
from runner.errors import ConflictError, RunnerError, StateError
from runner.model.durations import format_duration
from runner.targets.ec2.launch.local_launches import SentRequest
from runner.targets.ec2.launch.refusals import words
from runner.targets.ec2.observe.queue_machines import RECENT

THROTTLED = frozenset(
    {"RequestLimitExceeded", "Throttling", "ThrottlingException", "TooManyRequestsException"}
)

BUSY_TRIES = 7
"""Throttled calls in a row, some two minutes, after which somebody should look."""

UNCLEAR_TRIES = 3

NEW_PROFILE_TRIES = 6

NEW_PROFILE_WAIT = 5.0
"""Seconds. EC2 knows a new instance profile only some time after IAM (IAM User Guide, "Changes
that I make are not always immediately visible")."""

LOOK_UP_WAITS = (0.0, 1.0, 2.0)
"""Seconds before each look: a new instance may not be seen at once."""

LONGEST_WAIT = 15.0
"""Seconds between two looks of a long wait."""

Say = Callable[[str], None]
Note = Callable[[SentRequest], None]
"""Keeps a request durably: it is about to be sent, at its ``at``. May raise StateError."""


class LaunchRefusedError(RunnerError):
    """EC2 has launched nothing, and asking for something else would be of no use."""


class UnclearError(RunnerError):
    """Whether EC2 has launched a machine is not known, and can't be found out now."""


class Verdict(Enum):
    """What a failed RunInstances says about itself."""

    REFUSED = auto()
    BUSY = auto()
    NEW_PROFILE = auto()
    LOST = auto()
    """It may have launched."""
    MISMATCH = auto()
    """Another request with the token has launched."""
    ENDED = auto()
    """The token has launched, and its machine is terminated."""


def verdict(error: AwsError) -> Verdict:
    """Pure."""
    if error.code in THROTTLED:
        return Verdict.BUSY
    if error.code == "IdempotentParameterMismatch":
        return Verdict.MISMATCH
    if error.code == "IdempotentInstanceTerminated":
        return Verdict.ENDED
    if error.code == "InvalidParameterValue" and "instance profile" in str(error).lower():
        return Verdict.NEW_PROFILE
    return Verdict.LOST if error.kind is ErrorKind.PASSING else Verdict.REFUSED


@dataclass(frozen=True, slots=True)
class InstanceRefused:
    """EC2 has no such machine now; ``error`` in its own words. Nothing was launched."""

    error: AwsError


@dataclass(frozen=True, slots=True)
class TokenTaken:
    """Another request has used the token, and no machine bears it: it is good for nothing."""


class _Doubt:
    """Whether a request of the token may have launched; ``lost``: why that isn't known."""

    def __init__(self, lost: str, left: float) -> None:
        self.lost = lost
        self._until = time.monotonic() + left

    @property
    def left(self) -> float:
        """Seconds in which its machine may stay unseen."""
        return max(0.0, self._until - time.monotonic())


def doubt_of(asked: SentRequest) -> _Doubt:
    """Of a request that was kept: whoever sent it hasn't told what came of it.

    A wall clock that went back since makes it as new as can be.
    """
    since = time.time() - asked.at
    left = RECENT if since < 0 else max(0.0, RECENT - since)
    return _Doubt("the command that asked was cut off", left)


class InstanceRequester:
    """``running`` makes each call once: boto3's own second try would hide a lost answer.

    ``before`` is called before each request, and may refuse it by raising.
    """

    def __init__(
        self,
        running: Ec2,
        looking: Ec2,
        say: Say,
        pause: Callable[[float], None],
        before: Callable[[], None] = lambda: None,
    ) -> None:
        self._running = running
        self._looking = looking
        self._say = say
        self._pause = pause
        self._before = before

    def ask(
        self, asked: SentRequest, note: Note, *, sent_before: bool = False
    ) -> Machine | InstanceRefused | TokenTaken:
        """``sent_before``: by a command that was cut off. Raises UnclearError; StateError, and
        what ``before`` raises, where nothing was sent that may have launched."""
        doubt = doubt_of(asked) if sent_before else None
        tries = dict.fromkeys(Verdict, 0)
        while True:
            asked = self._about_to_send(asked, note, doubt)
            try:
                return self._running.run(**asked.request)
            except AwsError as error:
                found = verdict(error)
                tries[found] += 1
                if found in (Verdict.LOST, Verdict.MISMATCH):
                    doubt = _Doubt(words(error), RECENT)
                settled = self._follow(found, tries[found], error, asked.token, doubt)
                if settled is not None:
                    return settled

    def _about_to_send(self, asked: SentRequest, note: Note, doubt: _Doubt | None) -> SentRequest:
        asked = replace(asked, at=time.time())
        try:
            self._before()
            note(asked)
        except (StateError, ConflictError, AwsError) as error:
            if doubt is None and isinstance(error, StateError):
                told = (
                    "EC2 is asked for nothing that isn't recorded here first: nothing was launched"
                )
                raise StateError(f"{error}\n{told}") from error
            if doubt is None:
                raise
            raise _unclear(doubt, f"it isn't asked again: {error}") from error
        return asked

    def probe(self, request: Mapping[str, Any]) -> AwsError | None:
        """Why EC2 would refuse it, by its DryRun: permissions and parameters, hardly capacity.

        What passes, or a zone that lacks something, is for the request itself.
        """
        for left in reversed(range(NEW_PROFILE_TRIES)):
            try:
                self._looking.run(DryRun=True, **request)
            except AwsError as error:
                found = verdict(error)
                if found is Verdict.NEW_PROFILE and left:
                    self._wait_for_profile(error)
                    continue
                if error.code == "DryRunOperation" or error.kind in (
                    ErrorKind.CAPACITY,
                    ErrorKind.QUOTA,
                ):
                    return None
                return error if found in (Verdict.REFUSED, Verdict.NEW_PROFILE) else None
            return None
        raise AssertionError("the last try returns")

    def _follow(
        self, found: Verdict, times: int, error: AwsError, token: str, doubt: _Doubt | None
    ) -> Machine | InstanceRefused | TokenTaken | None:
        """None: the same again."""
        match found:
            case Verdict.BUSY if times < BUSY_TRIES:
                wait = 2.0 ** (times - 1) * random.uniform(0.75, 1.25)
                self._say(f"EC2 is asked too often ({error.code}): again in {wait:.0f}s")
                self._pause(wait)
                return None
            case Verdict.NEW_PROFILE if times < NEW_PROFILE_TRIES:
                self._wait_for_profile(error)
                return None
            case Verdict.LOST:
                assert doubt is not None
                return self._after_loss(times, token, doubt)
            case Verdict.ENDED:
                return TokenTaken()
            case Verdict.MISMATCH:
                assert doubt is not None
                return self._settled(token, doubt, error) or TokenTaken()
            case _ if doubt is not None:
                return self._settled(token, doubt, error) or InstanceRefused(error)
            case _:
                return InstanceRefused(error)

    def _wait_for_profile(self, error: AwsError) -> None:
        self._say(f"{error}: again in {NEW_PROFILE_WAIT:.0f}s, it may be new")
        self._pause(NEW_PROFILE_WAIT)

    def _after_loss(self, times: int, token: str, doubt: _Doubt) -> Machine | None:
        """Look at once, for the same token is asked for again if there is nothing to be seen."""
        self._say(f"EC2's answer was lost ({doubt.lost}): looking whether it launched")
        for wait in LOOK_UP_WAITS:
            if wait:
                self._pause(wait)
            machine = self._seen(token, doubt)
            if isinstance(machine, Machine):
                self._say(f"it did: {machine.instance_id}")
                return machine
        if times >= UNCLEAR_TRIES:
            raise _unclear(doubt, "no other is asked for")
        self._say("no machine is to be seen: asking again, under the same token")
        return None

    def _settled(self, token: str, doubt: _Doubt, refusal: AwsError) -> Machine | None:
        """The token's machine; None once EC2 would show it, and doesn't. Raises UnclearError."""
        left = doubt.left
        self._say(
            f"EC2 refuses now ({words(refusal)}), but may have launched before ({doubt.lost}): "
            f"looking, for up to {format_duration(float(round(left)))}"
        )
        unseen: AwsError | None = None
        for wait in _waits(left):
            if wait:
                self._pause(wait)
            seen = self._seen(token, doubt)
            if isinstance(seen, Machine):
                self._say(f"it did: {seen.instance_id}")
                return seen
            unseen = seen
        if unseen is not None:
            raise _unclear(doubt, f"EC2 can't be asked: {words(unseen)}")
        return None

    def _seen(self, token: str, doubt: _Doubt) -> Machine | AwsError | None:
        """The machine that was launched under the token, as far as EC2 tells; the error of a look
        that may succeed later. Raises UnclearError for one that won't."""
        try:
            return self._looking.launched_with(token)
        except AwsError as error:
            if error.kind is ErrorKind.PASSING:
                return error
            raise _unclear(doubt, f"EC2 can't be asked: {words(error)}") from error


def _waits(seconds: float) -> Iterator[float]:
    """Seconds before each look, further and further apart; all of them are ``seconds``."""
    yield 0.0
    wait = 1.0
    while seconds > 0:
        yield min(wait, seconds)
        seconds -= wait
        wait = min(2 * wait, LONGEST_WAIT)


def _unclear(doubt: _Doubt, why: str) -> UnclearError:
    return UnclearError(
        f"EC2 doesn't say whether it launched a machine ({doubt.lost}); {why}\n"
        "The same command again finds it, or goes on; any other launches nothing meanwhile"
    )
