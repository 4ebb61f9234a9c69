"""What follows from each answer of RunInstances, and from none."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import pytest

from runner.aws.ec2 import Machine
from runner.aws.errors import AwsError, ErrorKind
from runner.errors import StateError
from runner.targets.ec2.launch.instance_requester import (
    BUSY_TRIES,
    NEW_PROFILE_TRIES,
    UNCLEAR_TRIES,
    InstanceRefused,
    InstanceRequester,
    TokenTaken,
    UnclearError,
    Verdict,
    verdict,
)
from runner.targets.ec2.launch.launch_guard import RECENT
from runner.targets.ec2.launch.local_launches import SentRequest

MACHINE = Machine("i-1", "pending", "t3.medium", "us-east-1")
ASKED = SentRequest(1, 0.0, {"ClientToken": "l-1", "InstanceType": "g5.xlarge"})
LOST = AwsError(ErrorKind.PASSING, "ReadTimeoutError", "Read timeout on endpoint URL")
BUSY = AwsError(ErrorKind.PASSING, "RequestLimitExceeded", "RequestLimitExceeded: too often")
NEW = AwsError(
    ErrorKind.INVALID,
    "InvalidParameterValue",
    "InvalidParameterValue: Value (x) for parameter iamInstanceProfile.name is invalid. "
    "Invalid IAM Instance Profile name",
)
REFUSALS = {
    each.code: each
    for each in (
        AwsError(ErrorKind.EXPIRED, "ExpiredToken", "ExpiredToken: made up"),
        AwsError(ErrorKind.EXPIRED, "RequestExpired", "RequestExpired: made up"),
        AwsError(ErrorKind.DENIED, "UnauthorizedOperation", "UnauthorizedOperation: made up"),
        AwsError(ErrorKind.CAPACITY, "InsufficientInstanceCapacity", "none here"),
        AwsError(ErrorKind.QUOTA, "VcpuLimitExceeded", "more than your limit of 0"),
        AwsError(ErrorKind.INVALID, "InvalidParameterValue", "InvalidParameterValue: made up"),
        AwsError(ErrorKind.NO_CREDENTIALS, "NoCredentials", "there are no AWS credentials"),
    )
}
MISMATCH = AwsError(ErrorKind.INVALID, "IdempotentParameterMismatch", "other parameters")


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


def ask(
    fake: Fake, slept: list[float] | None = None, asked: SentRequest = ASKED, **more: Any
) -> Machine | InstanceRefused | TokenTaken:
    """``note`` in ``more``: what is called before each sending."""
    pauses: list[float] = [] if slept is None else slept
    note = more.pop("note", lambda _: None)
    requester = InstanceRequester(fake, fake, lambda _: None, pauses.append)  # type: ignore[arg-type]
    return requester.ask(asked, note, **more)


def refused(fake: Fake, **more: Any) -> AwsError:
    answer = ask(fake, **more)
    assert isinstance(answer, InstanceRefused)
    return answer.error


@pytest.mark.parametrize(
    ("kind", "code", "expected"),
    [
        (ErrorKind.CAPACITY, "InsufficientInstanceCapacity", Verdict.REFUSED),
        (ErrorKind.QUOTA, "VcpuLimitExceeded", Verdict.REFUSED),
        (ErrorKind.PASSING, "RequestLimitExceeded", Verdict.BUSY),
        (ErrorKind.PASSING, "InternalError", Verdict.LOST),
        (ErrorKind.PASSING, "ConnectionClosedError", Verdict.LOST),
        (ErrorKind.INVALID, "IdempotentParameterMismatch", Verdict.MISMATCH),
        (ErrorKind.INVALID, "IdempotentInstanceTerminated", Verdict.ENDED),
        (ErrorKind.INVALID, "InvalidParameterValue", Verdict.REFUSED),
        (ErrorKind.DENIED, "UnauthorizedOperation", Verdict.REFUSED),
        (ErrorKind.EXPIRED, "RequestExpired", Verdict.REFUSED),
    ],
)
def test_what_follows_from_an_error(kind: ErrorKind, code: str, expected: Verdict) -> None:
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


@pytest.mark.parametrize("code", REFUSALS)
def test_a_refusal_after_a_lost_answer_is_looked_into(code: str) -> None:
    """A machine that runs would be told as refused, and launched once more."""
    fake = Fake([LOST, REFUSALS[code]], seen=[None] * 5 + [MACHINE])
    assert ask(fake) == MACHINE
    assert fake.did == ["run", "look", "look", "look", "run", "look", "look", "look"]


@pytest.mark.parametrize("code", REFUSALS)
def test_a_refusal_stands_once_ec2_would_show_the_machine(code: str) -> None:
    """No other candidate would ever be tried after one lost answer."""
    slept: list[float] = []
    fake = Fake([LOST, REFUSALS[code]])
    assert refused(fake, slept=slept) is REFUSALS[code]
    assert RECENT - 60 < sum(slept[2:]) <= RECENT, "two pauses are those after the loss"


@pytest.mark.parametrize("look", [LOST, REFUSALS["ExpiredToken"], REFUSALS["NoCredentials"]])
def test_while_ec2_cannot_be_asked_a_refusal_is_unclear(look: AwsError) -> None:
    """An account whose keys have run out just then would get a second machine."""
    fake = Fake([LOST, REFUSALS["ExpiredToken"]], seen=[None] * 3 + [look] * 100)
    with pytest.raises(UnclearError, match="doesn't say whether it launched"):
        ask(fake)


@pytest.mark.parametrize(
    "answers", [[BUSY] * BUSY_TRIES, [NEW] * NEW_PROFILE_TRIES], ids=["throttled", "profile"]
)
def test_patience_that_ends_in_doubt_is_looked_into(answers: list[AwsError]) -> None:
    """Throttled to the end, the machine of the first try would be forgotten."""
    fake = Fake([LOST, *answers], seen=[None] * 3 + [MACHINE])
    assert ask(fake) == MACHINE


def test_what_a_cut_command_sent_is_in_doubt_from_the_start() -> None:
    """The command after a kill would take a refusal for the whole truth."""
    slept: list[float] = []
    kept = SentRequest(1, time.time() - 100, ASKED.request)
    assert ask(Fake([REFUSALS["ExpiredToken"]], [None, MACHINE]), asked=kept, sent_before=True)
    gone = Fake([REFUSALS["ExpiredToken"]])
    assert refused(gone, slept=slept, asked=kept, sent_before=True)
    assert 0 < sum(slept) <= RECENT - 100
    slept.clear()
    ahead = SentRequest(1, time.time() + 10**6, ASKED.request)
    assert refused(Fake([BUSY] * BUSY_TRIES), slept=slept, asked=ahead, sent_before=True)
    assert sum(slept) > RECENT - 60, "a clock that was wrong makes nothing certain"


def test_each_sending_is_noted_before() -> None:
    """A kill during the second try would find a record that says the first was long ago."""
    fake, noted = Fake([LOST, BUSY, MACHINE]), []

    def note(asked: SentRequest) -> None:
        noted.append((asked.at, fake.did.count("run")))

    before = time.time()
    assert ask(fake, note=note) == MACHINE
    assert [sent for _, sent in noted] == [0, 1, 2]
    assert all(at >= before for at, _ in noted)


def test_a_disk_that_fills_in_doubt_is_unclear() -> None:
    """Its error would hide that a machine may run."""
    writes = [None, StateError("q.json: No space left on device")]

    def note(_: SentRequest) -> None:
        if (error := writes.pop(0)) is not None:
            raise error

    with pytest.raises(UnclearError, match="No space left"):
        ask(Fake([LOST]), note=note)
    writes[:] = [StateError("q.json: No space left on device")]
    fake = Fake([])
    with pytest.raises(StateError, match="nothing was launched"):
        ask(fake, note=note)
    assert fake.did == []


def test_throttling_backs_off_and_ends() -> None:
    """Asking on at once makes it worse; asking for ever looks like a hang."""
    slept: list[float] = []
    assert ask(Fake([BUSY, BUSY, BUSY, MACHINE]), slept) == MACHINE
    assert len(slept) == 3 and slept[0] < slept[1] < slept[2]
    assert refused(Fake([BUSY] * BUSY_TRIES)) is BUSY


def test_a_new_profile_is_waited_for() -> None:
    """The first launch after `runner setup` would fail: EC2 learns of a profile late."""
    slept: list[float] = []
    assert ask(Fake([NEW, NEW, MACHINE]), slept) == MACHINE
    assert slept == [5.0, 5.0]


def test_a_used_token_is_looked_up() -> None:
    """The machine that bears it would stay alone, and unknown."""
    assert ask(Fake([MISMATCH], seen=[None] * 5 + [MACHINE])) == MACHINE
    assert isinstance(ask(Fake([MISMATCH])), TokenTaken)
    ended = AwsError(ErrorKind.INVALID, "IdempotentInstanceTerminated", "terminated")
    assert isinstance(ask(Fake([LOST, ended])), TokenTaken)


def probed(*answers: AwsError) -> tuple[AwsError | None, int]:
    """What a probe of EC2's answers says, and how often it asked."""
    fake = Fake([*answers, AwsError(ErrorKind.INVALID, "DryRunOperation", "would have succeeded")])
    said: list[str] = []
    requester = InstanceRequester(fake, fake, said.append, lambda _: None)  # type: ignore[arg-type]
    return requester.probe(ASKED.request), len(fake.did)


def test_a_probe_tells_what_is_denied_and_nothing_else() -> None:
    """A full zone, or a bad minute, would stop a launch that the next zone could have had."""
    assert probed() == (None, 1)
    assert probed(REFUSALS["InsufficientInstanceCapacity"]) == (None, 1)
    assert probed(REFUSALS["VcpuLimitExceeded"]) == (None, 1)
    assert probed(LOST) == (None, 1)
    assert probed(NEW, NEW) == (None, 3)
    assert probed(*[NEW] * NEW_PROFILE_TRIES) == (NEW, NEW_PROFILE_TRIES)
    denied = REFUSALS["UnauthorizedOperation"]
    assert probed(denied) == (denied, 1)
