"""What `runner setup` says of flags that can't be, before it asks AWS anything."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from runner.aws import clients
from runner.aws.errors import AwsError, ErrorKind
from runner.aws.stacks import Event
from runner.cli.main import run_command
from runner.targets.ec2.account import setup, stack_plans
from runner.targets.ec2.account.setup import SetupRequest
from runner.targets.ec2.account.stack_plans import Done, SetupPlan, SetupStep


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--bucket", "Not_A_Name"), "isn't the name of a bucket"),
        (("--create-bucket", "a-b", "--prefix", "/"), "isn't a prefix"),
        (("--bucket", "a-b", "--prefix", "runner/x"), "below runner/ is what launches go by"),
        (("--prefix", "team-a"), "--prefix goes with --bucket or --create-bucket"),
        (("--bucket", "a-b", "--versioning"), "--versioning goes with --create-bucket"),
        (("--bucket", "a-b", "--secret", "hf-token"), "isn't the ARN of an SSM parameter"),
        (("--bucket", "a-b", "--kms-key", "alias/k"), "isn't the ARN of a KMS key"),
        (("--region", "mars", "--bucket", "a-b"), '"mars" is no region'),
    ],
)
def test_mistakes_are_told_before_anything_is_asked(
    words: tuple[str, ...],
    told: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A wrong ARN would fail in CloudFormation, a minute later."""

    def refused(*_: object, **__: object) -> object:
        raise AssertionError("AWS was asked")

    monkeypatch.setattr("runner.targets.ec2.account.setup.make_client", refused)
    assert run_command(["setup", *words, "--yes"]) == 2
    assert told in capsys.readouterr().err


def planned(*, same: bool = False) -> SetupPlan:
    step = SetupStep(
        "runner-permissions", "eu-west-1", "text", {}, ("a role",), there=False, same=same
    )
    return SetupPlan("123456789012", "aws", "eu-west-1", [step])


def test_a_ctrl_c_says_what_goes_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody would think that it was stopped, and make the same by hand."""

    def interrupted(plan: SetupPlan, tell: Callable[[SetupStep, Event], None]) -> list[Done]:
        tell(plan.steps[0], Event("Role", "AWS::IAM::Role", "CREATE_IN_PROGRESS", ""))
        raise KeyboardInterrupt

    monkeypatch.setattr(setup, "make_plan", lambda _: planned())
    monkeypatch.setattr(stack_plans, "carry_out", interrupted)
    assert run_command(["setup", "--region", "eu-west-1", "--yes"]) == 130
    told = capsys.readouterr().err
    assert "runner-permissions: Role CREATE_IN_PROGRESS" in told
    assert "CloudFormation goes on with runner-permissions in eu-west-1" in told


def test_who_may_not_is_told_who_may(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`AccessDenied` alone sends people to ask for rights that they needn't have."""

    def denied(_: SetupRequest) -> SetupPlan:
        raise AwsError(
            ErrorKind.DENIED, "AccessDenied", "AccessDenied: not cloudformation:DescribeStacks"
        )

    monkeypatch.setattr(setup, "make_plan", denied)
    assert run_command(["setup", "--region", "eu-west-1", "--yes"]) == 1
    told = capsys.readouterr().err
    assert "cloudformation:DescribeStacks" in told
    assert "an administrator of the account does this, once" in told


def test_nothing_to_do_asks_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A script that makes sure of the set-up would stop at a question."""
    done = [Done("runner-permissions", "eu-west-1", "unchanged", {})]
    monkeypatch.setattr(setup, "make_plan", lambda _: planned(same=True))
    monkeypatch.setattr(stack_plans, "carry_out", lambda *_: done)
    assert run_command(["setup", "--region", "eu-west-1"]) == 0
    assert capsys.readouterr().out.endswith("nothing to do\n")


def test_two_buckets_at_once_are_one_too_many(capsys: pytest.CaptureFixture[str]) -> None:
    """One of them would be ignored."""
    with pytest.raises(SystemExit) as caught:
        run_command(["setup", "--bucket", "a-b", "--create-bucket", "c-d"])
    assert caught.value.code == 2
    assert "not allowed with" in capsys.readouterr().err


def test_the_region_is_the_one_that_was_given() -> None:
    """Half the world has another region in its settings."""
    assert clients.region_of("ap-southeast-2") == "ap-southeast-2"
    assert clients.region_of("us-gov-west-1") == "us-gov-west-1"
