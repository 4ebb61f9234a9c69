"""The parts of `runner doctor` that need no AWS: bounds, quotas, the clock, trust."""

from __future__ import annotations

import json
import threading
import time
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from runner.aws.errors import AwsError, ErrorKind
from runner.errors import UsageError
from runner.model.settings import load_settings
from runner.targets.ec2.account.doctor import permissions, scheduling
from runner.targets.ec2.account.doctor.account import Caller, _clock
from runner.targets.ec2.account.doctor.findings import Finding, Grade, examine, ok
from runner.targets.ec2.account.doctor.notices import check_targets
from runner.targets.ec2.account.doctor.role import trusts
from runner.targets.ec2.schedules.schedule_account import ScheduleAccount


def test_one_check_that_hangs_holds_nobody_up() -> None:
    """A firewall that drops packets would make doctor silent, when it is needed most."""
    let_go = threading.Event()

    def hang() -> list[Finding]:
        let_go.wait(30)
        return []

    began = time.monotonic()
    found = examine({"hangs": hang, "well": lambda: [ok("well", "yes")]}, patience=0.2)
    assert time.monotonic() - began < 5
    let_go.set()
    assert [(each.check, each.grade) for each in found] == [
        ("hangs", Grade.FAIL),
        ("well", Grade.OK),
    ]
    assert "no answer within" in found[0].says


def test_one_check_that_breaks_is_a_finding() -> None:
    """The other twelve would be lost with it."""

    def denied() -> list[Finding]:
        raise UsageError("not so")

    def broken() -> list[Finding]:
        raise KeyError("x")

    found = examine({"a": denied, "b": broken, "c": list})
    assert [(each.grade, each.says) for each in found] == [
        (Grade.FAIL, "not so"),
        (Grade.WARN, "could not be looked at: KeyError: 'x'"),
    ]


@pytest.mark.parametrize(
    ("ahead", "grade", "words"),
    [
        (0, Grade.OK, "as AWS's"),
        (-90, Grade.WARN, "behind AWS's"),
        (400, Grade.FAIL, "ahead of AWS's: AWS refuses"),
    ],
)
def test_a_wrong_clock_is_told(ahead: int, grade: Grade, words: str) -> None:
    """AWS says `SignatureDoesNotMatch`, and people change their keys."""
    (found,) = _clock({"date": formatdate(time.time() - ahead, usegmt=True)})
    assert found.grade is grade and words in found.says


def test_no_clock_is_no_finding() -> None:
    """An answer that a proxy made has no date, or a strange one."""
    assert _clock({}) == [] == _clock({"date": "yesterday"})


@pytest.mark.parametrize(
    ("trust", "trusted"),
    [
        ({"Statement": [{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}}]}, True),
        ({"Statement": {"Effect": "Allow", "Principal": {"Service": ["ec2.amazonaws.com"]}}}, True),
        ({"Statement": [{"Effect": "Allow", "Principal": {"AWS": "*"}}]}, False),
        ({"Statement": [{"Effect": "Deny", "Principal": {"Service": "ec2.amazonaws.com"}}]}, False),
        ('{"Statement":%5B%5D}', False),
        ({}, False),
    ],
)
def test_whether_ec2_is_trusted(trust: Any, trusted: bool) -> None:
    """A machine would boot without keys, and its log say nothing of why."""
    assert trusts(trust, "ec2.amazonaws.com") is trusted


# -- IAM's simulator, which no fake has ------------------------------------------------------

USER = Caller("123456789012", "arn:aws:iam::123456789012:user/ann")


@pytest.mark.parametrize(
    ("arn", "source"),
    [
        (USER.arn, USER.arn),
        ("arn:aws:sts::1:assumed-role/dev/ann", "arn:aws:iam::1:role/dev"),
        ("arn:aws:sts::1:assumed-role/AWSReservedSSO_Dev_1/ann", None),
        ("arn:aws:iam::1:root", None),
    ],
)
def test_who_is_simulated(arn: str, source: str | None) -> None:
    """The simulator refuses sessions: it would look as if something were denied."""
    assert permissions.simulated_as(Caller("1", arn)) == source


def test_what_the_simulator_denies_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first `runner status` would be the one to find out."""

    def simulate(source: str, action: str, resources: list[str]) -> list[dict[str, Any]]:
        assert source == USER.arn
        decide = {True: "allowed", False: "implicitDeny"}
        return [
            {"EvalResourceName": each, "EvalDecision": decide["Runner-Act" not in each]}
            for each in resources
        ]

    monkeypatch.setattr(permissions, "simulate", simulate)
    (found,) = permissions.check_simulated(USER, "eu-west-1")
    assert found.grade is Grade.FAIL
    denied = "ssm:SendCommand on arn:aws:ssm:eu-west-1:123456789012:document/Runner-Act"
    assert found.says == f"denied: {denied}"


def test_who_may_not_simulate_hears_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most people may not; it would be one more warning that is none."""

    def denied(*_: object) -> list[dict[str, Any]]:
        raise AwsError(ErrorKind.DENIED, "AccessDenied", "no")

    monkeypatch.setattr(permissions, "simulate", denied)
    assert permissions.check_simulated(USER, "eu-west-1") == []


@pytest.mark.parametrize(
    ("missing", "notes", "grade", "says"),
    [
        ((), (), "ok", "are there"),
        (("a", "b", "c"), (), "ok", "not set up"),
        (("the role runner-scheduler",), (), "warn", "there is not the role runner-scheduler"),
        ((), ("x", "y", "z"), "ok", "not to be seen"),
        ((), ("whether there is a can't be seen",), "warn", "can't be seen"),
    ],
)
def test_schedules_are_set_up_or_not_and_half_of_it_is_told(
    monkeypatch: pytest.MonkeyPatch,
    missing: tuple[str, ...],
    notes: tuple[str, ...],
    grade: str,
    says: str,
) -> None:
    """Half a setup would be found by the first schedule; an account without would be warned of."""
    there = ScheduleAccount("role", "queue", missing, notes)
    monkeypatch.setattr(scheduling, "look_at_account", lambda _: there)
    (found,) = scheduling.check_schedules("us-east-1")
    assert (found.grade.value, says in found.says) == (grade, True)


def test_programs_that_are_told_can_be_run(tmp_path: Path) -> None:
    """A machine would tell nobody of its queues, and nobody would know before the first failure."""
    program = tmp_path / "tell"

    def told(*targets: str) -> list[tuple[str, str]]:
        given = json.dumps([{"to": each} for each in targets])
        settings = load_settings({"RUNNER_NOTIFY": given}, root=False, home=tmp_path)
        return [(each.grade.value, each.says) for each in check_targets(settings)]

    to = f"exec:{program}"
    assert told() == []
    assert told(to) == [("fail", f"{to}: No such file or directory")]
    program.touch()
    assert told(to) == [("fail", f"{to}: can't be run: nobody may (chmod +x)")]
    program.chmod(0o755)
    ((grade, says),) = told(to, "https://example.com/secret")
    assert grade == "ok"
    assert to in says and "/secret" not in says
