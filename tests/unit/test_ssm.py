"""How a command of SSM is waited for: how often, how long, and through what."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from runner.aws import ssm as ssm_module
from runner.aws.errors import AwsError, ErrorKind, translate
from runner.aws.ssm import Outcome, Ssm

DONE = Outcome("Success", "Success", 0, "out", "")
WAITS = Outcome("Pending", "Pending", None, "", "")


class Scripted(Ssm):
    """Says what it was told to, and lets its own time pass."""

    def __init__(self, answers: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__("us-east-1")
        self.pauses: list[float] = []
        self.now = 0.0
        self._answers: Iterator[Any] = iter(answers)
        monkeypatch.setattr(ssm_module.time, "monotonic", lambda: self.now)

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds

    def outcome(self, command_id: str, instance_id: str) -> Outcome | None:
        answer = next(self._answers)
        if isinstance(answer, Exception):
            raise answer
        assert answer is None or isinstance(answer, Outcome)
        return answer


def test_it_is_asked_at_growing_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    """A minute's wait would cost a hundred calls, or a quick answer two seconds."""
    fake = Scripted([None, None, *[WAITS] * 40, DONE], monkeypatch)
    assert fake.ended("c", "i", 120, sleep=fake.sleep) == DONE
    assert fake.pauses[0] <= 0.6
    assert max(fake.pauses) <= 2.4
    assert len(fake.pauses) / fake.now < 0.7, "calls a second"


def test_what_ssm_does_not_know_yet_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first look comes before the command has arrived everywhere."""
    fake = Scripted([None] * 5 + [DONE], monkeypatch)
    assert fake.ended("c", "i", 60, sleep=fake.sleep) == DONE


def test_what_ssm_never_knows_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Status would hang for its whole patience."""
    fake = Scripted([None] * 1000, monkeypatch)
    assert fake.ended("c", "i", 300, sleep=fake.sleep) is None
    assert fake.now < 20


def test_throttling_makes_it_slower_not_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten people who look at once would all see errors."""
    busy = AwsError(ErrorKind.PASSING, "ThrottlingException", "Rate exceeded")
    fake = Scripted([busy, busy, WAITS, DONE], monkeypatch)
    assert fake.ended("c", "i", 60, sleep=fake.sleep) == DONE
    assert fake.pauses[1] >= 1.5


def test_patience_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is stuck would hold the terminal for ever."""
    fake = Scripted([WAITS] * 1000, monkeypatch)
    assert fake.ended("c", "i", 30, sleep=fake.sleep) is None
    assert 30 <= fake.now < 34


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("ThrottlingException", 400, ErrorKind.PASSING),
        ("InvalidInstanceId", 400, ErrorKind.INVALID),
        ("AccessDeniedException", 400, ErrorKind.DENIED),
        ("ExpiredTokenException", 400, ErrorKind.EXPIRED),
        ("InternalServerError", 500, ErrorKind.PASSING),
    ],
)
def test_its_errors_mean_what_their_codes_say(code: str, status: int, kind: ErrorKind) -> None:
    """SSM has status 400 for nearly everything: a busy moment would look like a mistake of ours."""
    from botocore.exceptions import ClientError

    told: Any = {
        "Error": {"Code": code, "Message": "m"},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    found = translate(ClientError(told, "SendCommand"))
    assert found is not None and found.kind is kind
