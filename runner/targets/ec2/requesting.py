"""Asking EC2 for a machine, until one is there or it is certain that there is none.

Owns what follows from each refusal. An answer that was lost is no refusal: the machine is looked
up by its token before the same token is used again, and no other candidate is tried before.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from runner.aws.ec2 import Ec2, Machine
from runner.aws.faults import AwsError, Kind
from runner.errors import RunnerError
from runner.targets.ec2.launches import Asked
from runner.targets.ec2.quotas import quota_of

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

Say = Callable[[str], None]


class RefusedError(RunnerError):
    """EC2 has launched nothing, and asking for something else would be of no use."""


class UnclearError(RunnerError):
    """Whether EC2 has launched a machine is not known, and can't be found out now."""


class Verdict(Enum):
    """What follows from a failed RunInstances."""

    NEXT = auto()
    QUOTA = auto()
    BUSY = auto()
    MISMATCH = auto()
    NEW_PROFILE = auto()
    UNCLEAR = auto()
    STOP = auto()


def verdict(error: AwsError) -> Verdict:
    """Pure."""
    if error.kind is Kind.CAPACITY:
        return Verdict.NEXT
    if error.kind is Kind.QUOTA:
        return Verdict.QUOTA
    if error.code in THROTTLED:
        return Verdict.BUSY
    if error.code == "IdempotentParameterMismatch":
        return Verdict.MISMATCH
    if error.code == "InvalidParameterValue" and "instance profile" in str(error).lower():
        return Verdict.NEW_PROFILE
    return Verdict.UNCLEAR if error.kind is Kind.PASSING else Verdict.STOP


@dataclass(frozen=True, slots=True)
class Refused:
    """EC2 has no such machine now; ``error`` in its own words. Nothing was launched."""

    error: AwsError


@dataclass(frozen=True, slots=True)
class TokenTaken:
    """Another request has used the token, and no machine bears it: it is good for nothing."""


class Asker:
    """``running`` makes each call once: boto3's own second try would hide a lost answer."""

    def __init__(
        self, running: Ec2, looking: Ec2, say: Say, pause: Callable[[float], None]
    ) -> None:
        self._running = running
        self._looking = looking
        self._say = say
        self._pause = pause

    def ask(self, asked: Asked) -> Machine | Refused | TokenTaken:
        """Raises RefusedError, UnclearError; AwsError where a look-up is refused."""
        tries = dict.fromkeys(Verdict, 0)
        while True:
            try:
                return self._running.run(**asked.request)
            except AwsError as error:
                found = verdict(error)
                tries[found] += 1
                settled = self._follow(found, tries[found], error, asked)
                if settled is not None:
                    return settled

    def probe(self, request: Mapping[str, Any]) -> None:
        """Whether EC2 would do it, by its DryRun: permissions and parameters, hardly capacity.

        Raises RefusedError. What passes, or a zone that lacks something, is for the request itself.
        """
        for left in reversed(range(NEW_PROFILE_TRIES)):
            try:
                self._looking.run(DryRun=True, **request)
                return
            except AwsError as error:
                if error.code == "DryRunOperation":
                    return
                found = verdict(error)
                if found is Verdict.NEW_PROFILE and left:
                    self._say(f"{error}: again in {NEW_PROFILE_WAIT:.0f}s, it may be new")
                    self._pause(NEW_PROFILE_WAIT)
                elif found in (Verdict.STOP, Verdict.NEW_PROFILE):
                    raise _stop(error) from error
                else:
                    return

    def _follow(
        self, found: Verdict, times: int, error: AwsError, asked: Asked
    ) -> Machine | Refused | TokenTaken | None:
        """None: the same again."""
        match found:
            case Verdict.NEXT:
                return Refused(error)
            case Verdict.QUOTA:
                raise RefusedError(_quota(error, asked)) from error
            case Verdict.BUSY if times < BUSY_TRIES:
                wait = 2.0 ** (times - 1) * random.uniform(0.75, 1.25)
                self._say(f"EC2 is asked too often ({error.code}): again in {wait:.0f}s")
                self._pause(wait)
                return None
            case Verdict.NEW_PROFILE if times < NEW_PROFILE_TRIES:
                self._say(f"{error}: again in {NEW_PROFILE_WAIT:.0f}s, it may be new")
                self._pause(NEW_PROFILE_WAIT)
                return None
            case Verdict.MISMATCH:
                return self.look_up(asked.token) or TokenTaken()
            case Verdict.UNCLEAR:
                return self._unclear(times, error, asked)
            case _:
                raise _stop(error) from error

    def _unclear(self, times: int, error: AwsError, asked: Asked) -> Machine | None:
        self._say(f"EC2's answer was lost ({_words(error)}): looking whether it launched")
        if (machine := self.look_up(asked.token)) is not None:
            self._say(f"it did: {machine.instance_id}")
            return machine
        if times >= UNCLEAR_TRIES:
            raise UnclearError(
                f"EC2 doesn't say whether it launched a machine ({_words(error)}); no other is "
                "asked for. The same command again finds it, or goes on"
            ) from error
        self._say("no machine is to be seen: asking again, under the same token")
        return None

    def look_up(self, token: str) -> Machine | None:
        """The machine that was launched under the token, as far as EC2 tells."""
        for wait in LOOK_UP_WAITS:
            if wait:
                self._pause(wait)
            try:
                if (machine := self._looking.launched_with(token)) is not None:
                    return machine
            except AwsError as error:
                if error.kind is not Kind.PASSING:
                    raise
        return None


def _quota(error: AwsError, asked: Asked) -> str:
    name = str(asked.request["InstanceType"])
    market = "spot" if "InstanceMarketOptions" in asked.request else "on-demand"
    what = quota_of(name, market)
    quota = f"'{what[0]}' ({what[1]})" if what else f"the quota of {name} ({market})"
    return (
        f"quota: {error}\n"
        f"another zone has the same quota: ask for more of {quota} in Service Quotas, Amazon EC2; "
        "or wait for machines to end; or take another family or market"
    )


def _stop(error: AwsError) -> RefusedError:
    text = f"EC2 refuses the launch: {_words(error)}"
    if error.kind is Kind.DENIED:
        text += "\n`runner setup` shows the policy that a launcher needs"
    return RefusedError(text)


def _words(error: AwsError) -> str:
    """Without the kilobyte that only sts:DecodeAuthorizationMessage can read."""
    text = str(error)
    at = text.find("Encoded authorization failure message")
    return text[:at].rstrip(" .") if at > 0 else text
