"""Each state of a machine: what is said of it, and what to do next."""

from __future__ import annotations

from typing import Any

import pytest

from runner.aws.ec2 import Machine
from runner.aws.errors import AwsError, ErrorKind
from runner.aws.ssm import Ping
from runner.targets.ec2 import names
from runner.targets.ec2.observe.machine_lookup import ResolvedTarget, Target, chosen
from runner.targets.ec2.observe.reachability import not_installed, of_machine, of_ping

NOW = 1_800_000_000.0
NAME = "i-0123456789abcdef0"


def machine(state: str, **more: Any) -> Machine:
    base = {"launched": NOW - 7200, "tags": {names.PRICE: "1.212"}, "region": "us-east-1"}
    given = {**base, **more}
    return Machine(instance_id=NAME, state=state, instance_type="g5.2xlarge", **given)


def found(machine: Machine | None, **more: Any) -> ResolvedTarget:
    return ResolvedTarget(
        Target("q"), "us-east-1", machine, NAME, "q", "s3://b/queues/q", "l1", **more
    )


def test_one_that_runs_has_nothing_against_it() -> None:
    """It would never be asked."""
    assert of_machine(found(machine("running")), NOW) is None


@pytest.mark.parametrize(
    ("state", "more", "why", "next_"),
    [
        ("pending", {"launched": NOW - 40}, "is booting, for 40s", "ask again in a minute"),
        ("stopped", {"spot": True, "why": "Server.Spot: x"}, 'stopped: EC2 says "Server.Spot: x"',
         "runner goes on by itself"),
        ("stopped", {}, "is stopped", "aws ec2 start-instances --instance-ids i-"),
        ("stopping", {}, "is stopping", "runner resume q"),
        ("shutting-down", {}, "is shutting-down", "runner results q"),
        ("terminated", {"why": "User initiated"}, 'EC2 says "User initiated"', "runner resume q"),
    ],
)  # fmt: skip
def test_one_that_does_not_run_says_why_and_what_next(
    state: str, more: dict[str, Any], why: str, next_: str
) -> None:
    """People would look at a mute machine, and not know what it costs them."""
    said = of_machine(found(machine(state, **more)), NOW)
    assert said is not None
    assert why in said.why and NAME in said.why
    assert any(next_ in line for line in said.advice)


@pytest.mark.parametrize(("ended", "resumes"), [(True, False), (False, True), (None, True)])
def test_nobody_is_told_to_resume_what_has_ended(ended: bool | None, resumes: bool) -> None:
    """Money for a machine that finds nothing to do."""
    said = of_machine(found(machine("terminated")), NOW, ended=ended)
    assert said is not None and said.ends
    assert any("runner resume" in line for line in said.advice) is resumes
    for spot in (True, False):
        said = of_machine(found(machine("stopped", spot=spot)), NOW, ended=ended)
        assert said is not None and not said.ends
        assert any("runner resume" in line for line in said.advice) is resumes
        assert any("runner terminate" in line for line in said.advice) is not resumes


def test_ec2_that_can_not_be_asked_is_no_machine_that_is_gone() -> None:
    """Somebody would start a second machine beside the first."""
    expired = AwsError(ErrorKind.EXPIRED, "ExpiredToken", "ExpiredToken: expired")
    said = of_machine(found(None, trouble=expired), NOW)
    assert said is not None and not said.ends
    assert "can't be asked: ExpiredToken" in said.why
    assert "aws sso login" in said.advice[0]


def test_who_may_only_use_ssm_is_let_through() -> None:
    """A policy without ec2:DescribeInstances would make status useless."""
    denied = AwsError(ErrorKind.DENIED, "UnauthorizedOperation", "no")
    assert of_machine(found(None, trouble=denied), NOW) is None


@pytest.mark.parametrize(
    ("up", "ping", "why", "next_"),
    [
        (30, None, "hasn't registered with SSM yet", "ask again"),
        (3000, None, "SSM doesn't know it", "runner doctor"),
        (3000, Ping("ConnectionLost", NOW - 600, "3"), "heard of 10m0s ago", "reboot-instances"),
        (3000, Ping("Online", NOW, "3"), "took no command in time", "ask again"),
    ],
)
def test_each_silence_has_its_reason(up: float, ping: Ping | None, why: str, next_: str) -> None:
    """SSM has one error for all of them, InvalidInstanceId."""
    said = of_ping(machine("running", launched=NOW - up), ping, NOW)
    assert why in said.why
    assert any(next_ in line for line in said.advice)


def test_one_without_runner_says_where_its_log_is() -> None:
    """A failed set-up would look like a slow one."""
    said = not_installed(found(None), machine("running"), NOW)
    assert any("s3://b/runner/launches/l1/bootstrap.log" in line for line in said.advice)


def test_of_many_machines_the_newest_that_lives_is_meant() -> None:
    """After a resume the old one, which comes back, would be asked."""
    old, new = machine("running", launched=1.0), machine("running", launched=2.0)
    gone = machine("terminated", launched=3.0)
    assert chosen([old, new, gone]) is new
    assert chosen([machine("terminated", launched=1.0), gone]) is gone
    assert chosen([]) is None
