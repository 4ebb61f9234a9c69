"""`runner doctor` on a laptop, against an AWS that enforces IAM: each fault has its words."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator, Sequence
from typing import Any

import boto3
import pytest
from guarded import Guarded
from mended_moto import MENDED
from templates import policies, widened, without

from runner.cli.main import run_command
from runner.targets.ec2 import names
from runner.targets.ec2.account.doctor import laptop as checks
from runner.targets.ec2.account.doctor import machine
from runner.targets.ec2.account.doctor.bucket import check_bucket
from runner.targets.ec2.account.doctor.findings import Finding, Grade
from runner.targets.ec2.account.doctor.permissions import check_end, check_launch
from runner.targets.ec2.account.doctor.quota import check_quota
from runner.targets.ec2.account.doctor.reach import check_documents, check_endpoints
from runner.targets.ec2.account.doctor.role import check_role

QUOTAS = {"L-1216C47A": 32, "L-34B43A08": 32, "L-DB2E81BA": 4, "L-3819A6DF": 12}
"""Standard types, on-demand and spot; then GPU types."""


def trust(service: str) -> str:
    """A trust policy, as text."""
    each = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
    return json.dumps({"Version": "2012-10-17", "Statement": [each]})


TRUST = trust("ec2.amazonaws.com")


@pytest.fixture(scope="module")
def guarded() -> Iterator[Guarded]:
    guarded = Guarded({"EC2_QUOTAS": json.dumps(QUOTAS)}, mended=MENDED)
    iam = guarded.client("iam")
    iam.create_role(RoleName=names.PROFILE, AssumeRolePolicyDocument=TRUST)
    iam.create_instance_profile(InstanceProfileName=names.PROFILE)
    iam.add_role_to_instance_profile(InstanceProfileName=names.PROFILE, RoleName=names.PROFILE)
    ssm = guarded.client("ssm")
    for name in (names.LOOK_DOCUMENT, names.ACT_DOCUMENT):
        content = json.dumps({"schemaVersion": "2.2", "mainSteps": []})
        ssm.create_document(Name=name, Content=content, DocumentType="Command")
    guarded.client("s3").put_bucket_encryption(
        Bucket=guarded.bucket,
        ServerSideEncryptionConfiguration={
            "Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]
        },
    )
    tags = [{"Key": names.QUEUE, "Value": "q"}]
    guarded.client("ec2").run_instances(
        ImageId="ami-1",
        MinCount=1,
        MaxCount=1,
        TagSpecifications=[{"ResourceType": "instance", "Tags": tags}],
    )
    yield guarded
    guarded.endpoint.close()


@pytest.fixture
def laptop(guarded: Guarded, monkeypatch: pytest.MonkeyPatch) -> Guarded:
    """A laptop of somebody who has the policy runner-launch, in an account that is set up."""
    for name, value in guarded.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(machine, "is_one", lambda: False)
    # A machine that is busy with other tests is slow, not broken.
    monkeypatch.setattr(checks, "PATIENCE", 60.0)
    monkeypatch.setattr(checks, "FOR_WHO", 30.0)
    # What other tests of this process were, it would remember.
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    guarded.allow(launch(guarded.bucket))
    return guarded


def launch(bucket: str) -> dict[str, Any]:
    shipped = policies(
        BucketArns=f"arn:aws:s3:::{bucket}",
        ResultArns=f"arn:aws:s3:::{bucket}/queues/*",
        ResultPrefixes="queues/*",
        KmsKeyArn="",
    )
    return widened(shipped["launch"])


class Report:
    """What was printed, by check."""

    def __init__(self, code: int, text: str) -> None:
        self.code = code
        self.found: list[dict[str, str]] = json.loads(text)

    def __getitem__(self, check: str) -> dict[str, str]:
        (found,) = [each for each in self.found if each["check"] == check]
        return found

    def grades(self) -> dict[str, str]:
        return {each["check"]: each["grade"] for each in self.found}


@pytest.fixture
def doctor(laptop: Guarded, capsys: pytest.CaptureFixture[str]) -> Any:
    """Asks, and says what was found."""

    def ask(*words: str, bucket: str | None = laptop.bucket) -> Report:
        named = ("--bucket", bucket) if bucket else ()
        code = run_command(["doctor", "--json", *named, *words])
        return Report(code, capsys.readouterr().out)

    return ask


def test_who_has_the_policy_is_well(doctor: Any, laptop: Guarded) -> None:
    """Doctor would cry wolf, or the policy lack what launch needs."""
    report = doctor()
    bad = [each for each in report.found if each["grade"] != "ok"]
    assert [each["check"] for each in bad] in ([], ["session plugin"]), bad
    assert report.code == 0
    assert set(report.grades()) >= {
        "credentials",
        "clock",
        "region",
        "endpoints",
        "role",
        f"bucket {laptop.bucket}",
        f"bucket {laptop.bucket}: encryption",
        f"bucket {laptop.bucket}: use",
        "launch (dry run)",
        "end (dry run)",
        "quota, on-demand",
        "quota, spot",
        "SSM documents",
        "session plugin",
    }
    left = laptop.endpoint.keys
    with laptop.off_guard():
        assert not left(laptop.bucket), "the small object was left there"


def tried_launch(_: str) -> Sequence[Finding]:
    return check_launch("us-east-1", "t3.medium", with_role=True)


def tried_end(_: str) -> Sequence[Finding]:
    return check_end("us-east-1")


def tried_bucket(bucket: str) -> Sequence[Finding]:
    return check_bucket(bucket, "us-east-1")


def tried_role(_: str) -> Sequence[Finding]:
    return check_role()


def tried_documents(_: str) -> Sequence[Finding]:
    return check_documents("us-east-1")


DENIED = [
    ("ec2:RunInstances", tried_launch, Grade.FAIL, "tagged, with the role:"),
    ("ssm:GetParameters", tried_launch, Grade.FAIL, "no image can be looked up"),
    ("ec2:TerminateInstances", tried_end, Grade.FAIL, "a machine of runner's:"),
    ("s3:PutObject", tried_bucket, Grade.FAIL, "s3:PutObject is missing"),
    ("s3:GetObject", tried_bucket, Grade.FAIL, "s3:GetObject is missing"),
    ("s3:DeleteObject", tried_bucket, Grade.FAIL, "s3:DeleteObject is missing"),
    ("s3:ListBucket", tried_bucket, Grade.FAIL, "s3:ListBucket is missing"),
    ("iam:GetInstanceProfile", tried_role, Grade.WARN, "iam:GetInstanceProfile is missing"),
    ("ssm:DescribeDocument", tried_documents, Grade.WARN, "ssm:DescribeDocument is missing"),
]


@pytest.mark.parametrize(("action", "tried", "grade", "words"), DENIED)
def test_what_is_denied_is_named(
    laptop: Guarded, action: str, tried: Any, grade: Grade, words: str
) -> None:
    """Somebody would have to guess which of forty actions is missing."""
    laptop.allow(without(launch(laptop.bucket), action))
    found = tried(laptop.bucket)[-1]
    assert found.grade is grade, found
    assert words in found.says
    assert bool(found.todo) == (grade is Grade.FAIL)


def test_no_credentials(
    doctor: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first call would fail with a name of boto3's."""
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    report = doctor()
    assert report.code == 1
    assert report["credentials"]["says"] == "there are no AWS credentials"
    assert "aws configure" in report["credentials"]["to_do"]
    assert report["endpoints"]["grade"] == "ok"
    assert run_command(["doctor"]) == 1
    shown = capsys.readouterr().out
    assert "fail  credentials  there are no AWS credentials\n" in shown
    assert "→ `aws configure`" in shown and shown.endswith("1 fail, 1 ok\n")


def test_keys_that_aws_doesnt_know(doctor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mistyped keys look like a missing permission."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    report = doctor()
    assert report["credentials"]["grade"] == "fail"
    assert "other keys" in report["credentials"]["to_do"]
    assert report["clock"]["grade"] == "ok", "it is the keys, not the clock"


def test_no_bucket(laptop: Guarded) -> None:
    """The launch would fail after it has built its bundle."""
    with laptop.off_guard():  # who may do everything: moto denies before it looks
        (found,) = tried_bucket("not-there-at-all")
    assert (found.grade, found.says) == (Grade.FAIL, "there is no such bucket")
    assert found.todo == "`runner setup --create-bucket not-there-at-all`"


def test_no_role(laptop: Guarded) -> None:
    """A machine without a role can fetch nothing, and say nothing."""
    iam = laptop.client("iam")
    with laptop.off_guard():
        iam.remove_role_from_instance_profile(
            InstanceProfileName=names.PROFILE, RoleName=names.PROFILE
        )
    try:
        (found,) = check_role()
        assert found.grade is Grade.FAIL and "holds no role" in found.says
        # What is left can be tried all the same.
        (tried,) = check_launch("us-east-1", "t3.medium", with_role=False)
        assert tried.says == "t3.medium, tagged: allowed"
    finally:
        with laptop.off_guard():
            iam.add_role_to_instance_profile(
                InstanceProfileName=names.PROFILE, RoleName=names.PROFILE
            )


def test_a_role_that_ec2_cant_give(laptop: Guarded) -> None:
    """EC2 launches all the same, and the machine has no keys."""
    iam, other = laptop.client("iam"), trust("lambda.amazonaws.com")
    with laptop.off_guard():
        iam.update_assume_role_policy(RoleName=names.PROFILE, PolicyDocument=other)
    try:
        (found,) = check_role()
        assert found.grade is Grade.FAIL and "doesn't trust EC2" in found.says
        assert "ec2.amazonaws.com" in found.todo
    finally:
        with laptop.off_guard():
            iam.update_assume_role_policy(RoleName=names.PROFILE, PolicyDocument=TRUST)


def test_a_quota_that_is_too_small(laptop: Guarded) -> None:
    """EC2 says VcpuLimitExceeded, and nobody knows which of 150 quotas that is."""
    small, enough = check_quota("us-east-1", "g5.2xlarge")
    assert small.grade is Grade.FAIL
    assert "g5.2xlarge needs 8 vCPUs, 0 of 4 are in use" in small.says
    assert "--quota-code L-DB2E81BA --desired-value 16" in small.todo
    assert enough.grade is Grade.OK and "0 of 12" in enough.says


def test_no_documents_in_another_region(laptop: Guarded) -> None:
    """`status` would need a shell there."""
    (found,) = check_documents("eu-west-1")
    assert found.grade is Grade.WARN and "Runner-Look and Runner-Act not in eu" in found.says
    assert found.todo == "`runner setup --region eu-west-1`"


def test_a_document_of_an_older_runner(laptop: Guarded) -> None:
    """Machines would be asked in a way that they don't know any more."""
    ssm, name = laptop.client("ssm"), names.ACT_DOCUMENT
    newer = json.dumps({"schemaVersion": "2.2", "description": "newer", "mainSteps": []})
    with laptop.off_guard():
        ssm.update_document(Name=name, Content=newer, DocumentVersion="$LATEST")
    try:
        (found,) = check_documents("us-east-1")
        assert found.grade is Grade.WARN and "older version than 2 is the default" in found.says
        assert f"--name {name} --document-version 2" in found.todo
    finally:
        with laptop.off_guard():
            ssm.update_document_default_version(Name=name, DocumentVersion="2")


def test_an_endpoint_that_nobody_answers_at(
    laptop: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A firewall looks like AWS being slow."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL_SSM", f"http://127.0.0.1:{port}")
    (found,) = check_endpoints("us-east-1")
    assert found.grade is Grade.FAIL
    assert found.says == f"ssm: http://127.0.0.1:{port}: Connection refused"
    assert "let port 443 of 127.0.0.1 through" in found.todo


@pytest.mark.long
def test_endpoints_that_are_silent(doctor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command would hang as the network does."""
    monkeypatch.setattr(checks, "PATIENCE", 4.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setenv("AWS_ENDPOINT_URL_IAM", url)
        role = doctor()["role"]
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", url)
        monkeypatch.setattr(checks, "PATIENCE", 60.0)
        monkeypatch.setattr(checks, "FOR_WHO", 1.0)
        report = doctor()
    assert role["grade"] == "fail" and role["says"].startswith("no answer within"), role
    assert report["credentials"]["says"] == "no answer within 1 s"
    assert report["endpoints"]["grade"] == "ok", "a connection can be had; nobody speaks"


def test_a_type_that_is_none(laptop: Guarded, capsys: pytest.CaptureFixture[str]) -> None:
    """A typing error would look like a missing quota."""
    assert run_command(["doctor", "--instance-type", "huge"]) == 2
    assert '"huge" is no type such as g5.xlarge' in capsys.readouterr().err
    assert os.environ["AWS_ENDPOINT_URL"] == laptop.endpoint.url
