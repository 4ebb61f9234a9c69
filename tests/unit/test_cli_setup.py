"""What `runner setup` says of flags that can't be, before it asks AWS anything."""

from __future__ import annotations

import pytest

from runner.aws import clients
from runner.cli.main import run_command


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--bucket", "Not_A_Name"), "isn't the name of a bucket"),
        (("--create-bucket", "a-b", "--prefix", "/"), "isn't a prefix"),
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

    monkeypatch.setattr("runner.targets.ec2.setup.make_client", refused)
    assert run_command(["setup", *words, "--yes"]) == 2
    assert told in capsys.readouterr().err


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
