"""What follows from each answer of RunInstances, and from none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from runner.aws.ec2 import Machine
from runner.aws.faults import AwsError, Kind
from runner.targets.ec2.launches import Asked
from runner.targets.ec2.requesting import (
    BUSY_TRIES,
    UNCLEAR_TRIES,
    Asker,
    Refused,
    RefusedError,
    TokenTaken,
    UnclearError,
    Verdict,
    verdict,
)

MACHINE = Machine("i-1", "pending", "t3.medium", "us-east-1")
ASKED = Asked(1, 0.0, {"ClientToken": "l-1", "InstanceType": "g5.xlarge"})
LOST = AwsError(Kind.PASSING, "ReadTimeoutError", "Read timeout on endpoint URL")
BUSY = AwsError(Kind.PASSING, "RequestLimitExceeded", "RequestLimitExceeded: too often")
MISMATCH = AwsError(Kind.INVALID, "IdempotentParameterMismatch", "other parameters")


class Fake:
    """An Ec2 whose answers are written down; ``seen``: what look-ups by token find."""

    def __init__(self, answers: Sequence[AwsError | Machine], seen: Sequence[Any] = ()) -> None:
        self.answers = list(answers)
        self.seen = list(seen)
        self.did: list[str] = []

    def run(self, **_: object) -> Machine:
        self.did.append("run")
        answer = self.answers.pop(0)
        if isinstance(answer, AwsError):
            raise answer
        return answer

    def launched_with(self, token: str) -> Machine | None:
        self.did.append("look")
        found = self.seen.pop(0) if self.seen else None
        if isinstance(found, AwsError):
            raise found
        return found


def ask(fake: Fake, slept: list[float] | None = None) -> Machine | Refused | TokenTaken:
    pauses: list[float] = [] if slept is None else slept
    return Asker(fake, fake, lambda _: None, pauses.append).ask(ASKED)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "code", "expected"),
    [
        (Kind.CAPACITY, "InsufficientInstanceCapacity", Verdict.NEXT),
        (Kind.QUOTA, "VcpuLimitExceeded", Verdict.QUOTA),
        (Kind.PASSING, "RequestLimitExceeded", Verdict.BUSY),
        (Kind.PASSING, "InternalError", Verdict.UNCLEAR),
        (Kind.PASSING, "ConnectionClosedError", Verdict.UNCLEAR),
        (Kind.INVALID, "IdempotentParameterMismatch", Verdict.MISMATCH),
        (Kind.INVALID, "InvalidParameterValue", Verdict.STOP),
        (Kind.DENIED, "UnauthorizedOperation", Verdict.STOP),
        (Kind.EXPIRED, "RequestExpired", Verdict.STOP),
    ],
)
def test_what_follows_from_an_error(kind: Kind, code: str, expected: Verdict) -> None:
    """A refusal taken for a lost answer costs time; the other way round, a second machine."""
    assert verdict(AwsError(kind, code, code)) is expected


def test_a_lost_answer_is_looked_up_before_the_token_is_used_again() -> None:
    """The machine that is there would be asked for again."""
    fake = Fake([LOST], seen=[None, MACHINE])
    assert ask(fake) == MACHINE
    assert fake.did == ["run", "look", "look"]


def test_a_machine_that_cannot_be_seen_is_asked_for_under_the_same_token() -> None:
    """EC2's idempotency gives the same machine; a new token would give a second."""
    fake = Fake([LOST, MACHINE])
    assert ask(fake) == MACHINE
    assert fake.did == ["run", "look", "look", "look", "run"]


def test_a_look_up_that_fails_is_no_proof() -> None:
    """With the network away nothing is to be seen, whatever runs."""
    fake = Fake([LOST] * UNCLEAR_TRIES, seen=[LOST] * 20)
    with pytest.raises(UnclearError, match="The same command again finds it"):
        ask(fake)


def test_throttling_backs_off_and_ends() -> None:
    """Asking on at once makes it worse; asking for ever looks like a hang."""
    slept: list[float] = []
    assert ask(Fake([BUSY, BUSY, BUSY, MACHINE]), slept) == MACHINE
    assert len(slept) == 3 and slept[0] < slept[1] < slept[2]
    with pytest.raises(RefusedError, match="RequestLimitExceeded"):
        ask(Fake([BUSY] * BUSY_TRIES))


def test_a_new_profile_is_waited_for() -> None:
    """The first launch after `runner setup` would fail: EC2 learns of a profile late."""
    code, text = "InvalidParameterValue", "Value (x) for parameter iamInstanceProfile.name is"
    new = AwsError(Kind.INVALID, code, f"{code}: {text} invalid. Invalid IAM Instance Profile name")
    slept: list[float] = []
    assert ask(Fake([new, new, MACHINE]), slept) == MACHINE
    assert slept == [5.0, 5.0]


def test_a_used_token_is_looked_up() -> None:
    """The machine that bears it would stay alone, and unknown."""
    assert ask(Fake([MISMATCH], seen=[MACHINE])) == MACHINE
    assert isinstance(ask(Fake([MISMATCH])), TokenTaken)


def test_a_quota_says_what_to_ask_for() -> None:
    """The user would search for a name that the error doesn't tell."""
    error = AwsError(
        Kind.QUOTA, "VcpuLimitExceeded", "VcpuLimitExceeded: more than your limit of 0"
    )
    with pytest.raises(RefusedError) as caught:
        ask(Fake([error]))
    assert "more than your limit of 0" in str(caught.value)
    assert "'Running On-Demand G and VT instances' (L-DB2E81BA)" in str(caught.value)


def probed(*answers: AwsError) -> list[str]:
    """What a probe did, or what it raised."""
    fake = Fake([*answers, AwsError(Kind.INVALID, "DryRunOperation", "would have succeeded")])
    said: list[str] = []
    Asker(fake, fake, said.append, lambda _: None).probe(ASKED.request)  # type: ignore[arg-type]
    return fake.did


def test_a_probe_tells_what_is_denied_and_nothing_else() -> None:
    """A full zone, or a bad minute, would stop a launch that the next zone could have had."""
    assert probed() == ["run"]
    assert probed(AwsError(Kind.CAPACITY, "Unsupported", "not in this zone")) == ["run"]
    assert probed(LOST) == ["run"]
    new = AwsError(Kind.INVALID, "InvalidParameterValue", "Invalid IAM Instance Profile name")
    assert probed(new, new) == ["run"] * 3
    with pytest.raises(RefusedError, match="runner setup"):
        probed(AwsError(Kind.DENIED, "UnauthorizedOperation", "UnauthorizedOperation: no"))
