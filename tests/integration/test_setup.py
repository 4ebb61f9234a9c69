"""`runner setup` against a CloudFormation server: what it makes, a second time, a second region."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from ec2_faults import Hold, Pass, RudeEc2
from mended_moto import MENDED
from s3_endpoint import Endpoint
from warm import Process
from world import World

from runner.targets.ec2 import names


@pytest.fixture(scope="module")
def cloud() -> Iterator[Endpoint]:
    endpoint = Endpoint(mended=MENDED)
    yield endpoint
    endpoint.close()


@pytest.fixture
def account(world: World, cloud: Endpoint) -> World:
    """An account in which nothing was ever made."""
    urllib.request.urlopen(f"{cloud.url}/moto-api/reset", data=b"", timeout=10).close()
    world.env.update(cloud.env)
    world.popen = Process
    return world


def client(cloud: Endpoint, service: str, region: str = "us-east-1") -> Any:
    return boto3.client(
        service,
        endpoint_url=cloud.url,
        region_name=region,
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )


def test_all_is_made_once(account: World, cloud: Endpoint) -> None:
    """Who follows the documentation could not launch."""
    done = account.call("setup", "--create-bucket", "my-results", "--yes", "--json")
    assert done.returncode == 0, done
    made = json.loads(done.stdout)
    assert [(s["stack"], s["result"]) for s in made["stacks"]] == [
        ("runner-bucket-my-results", "created"),
        ("runner-permissions", "created"),
        ("runner-documents", "created"),
    ]
    iam = client(cloud, "iam")
    profile = iam.get_instance_profile(InstanceProfileName=names.PROFILE)["InstanceProfile"]
    assert [role["RoleName"] for role in profile["Roles"]] == [names.PROFILE]
    mine = {p["PolicyName"] for p in iam.list_policies(Scope="Local")["Policies"]}
    assert mine == {names.LAUNCH_POLICY, names.LOOK_POLICY}
    for document in (names.LOOK_DOCUMENT, names.ACT_DOCUMENT):
        content = client(cloud, "ssm").get_document(Name=document)["Content"]
        assert "runner ask" in content
    stored = client(cloud, "s3").get_bucket_encryption(Bucket="my-results")
    assert "AES256" in json.dumps(stored["ServerSideEncryptionConfiguration"])

    again = account.call("setup", "--create-bucket", "my-results", "--yes")
    assert again.returncode == 0, again
    assert again.stdout.endswith("nothing to do\n")
    assert "CREATE" not in again.stderr and "UPDATE" not in again.stderr


def test_what_schedules_need_is_made_beside_it(account: World, cloud: Endpoint) -> None:
    """`schedule create` would name a command that doesn't make what it misses."""
    words = ("--create-bucket", "nights", "--schedules", "--yes")
    done = account.call("setup", *words, "--json")
    assert done.returncode == 0, done
    assert [each["stack"] for each in json.loads(done.stdout)["stacks"]][-2:] == [
        "runner-schedule-permissions",
        "runner-schedules",
    ]
    roles = {role["RoleName"] for role in client(cloud, "iam").list_roles()["Roles"]}
    assert {"runner-instance", "runner-scheduler"} <= roles
    assert client(cloud, "scheduler").get_schedule_group(Name="runner")["State"] == "ACTIVE"
    assert client(cloud, "sqs").get_queue_url(QueueName="runner-schedules")
    again = account.call("setup", *words)
    assert again.returncode == 0 and again.stdout.endswith("nothing to do\n"), again
    other = account.call("setup", "--region", "eu-west-1", "--schedules", "--yes")
    assert other.returncode == 0, other
    assert client(cloud, "scheduler", "eu-west-1").get_schedule_group(Name="runner")


def test_a_second_region_adds_to_the_one_role(account: World, cloud: Endpoint) -> None:
    """A role of the same name can't be made twice, and machines of the first would lose theirs."""
    first = account.call("setup", "--create-bucket", "one", "--yes")
    assert first.returncode == 0, first
    words = ("--region", "eu-west-1", "--create-bucket", "two", "--prefix", "team-a")
    done = account.call("setup", *words, "--yes", "--json")
    assert done.returncode == 0, done
    assert [(s["stack"], s["region"], s["result"]) for s in json.loads(done.stdout)["stacks"]] == [
        ("runner-bucket-two", "eu-west-1", "created"),
        ("runner-permissions", "us-east-1", "updated"),
        ("runner-documents", "eu-west-1", "created"),
    ]
    assert "IAM has no regions" in done.stderr
    stacks = client(cloud, "cloudformation").describe_stacks(StackName="runner-permissions")
    told = {p["ParameterKey"]: p["ParameterValue"] for p in stacks["Stacks"][0]["Parameters"]}
    assert told["ResultArns"] == "arn:aws:s3:::one/queues/*,arn:aws:s3:::two/team-a/*"
    later = account.call("setup", "--region", "eu-west-1")
    assert later.returncode == 0 and "nothing to do" in later.stdout, later


def test_a_look_makes_nothing(account: World, cloud: Endpoint) -> None:
    """Who wants to know first would find it done."""
    done = account.call("setup", "--create-bucket", "b-b", "--dry-run")
    assert done.returncode == 0, done
    assert "stack runner-permissions in us-east-1: to be made" in done.stdout
    assert "s3://b-b/queues/*" in done.stdout
    asked = account.call("setup", "--create-bucket", "b-b")
    assert asked.returncode == 2
    assert "so nothing can be confirmed: add --yes" in asked.stderr
    assert client(cloud, "cloudformation").describe_stacks()["Stacks"] == []
    shown = account.call("setup", "--show")
    assert shown.returncode == 0
    assert shown.stdout.count("AWSTemplateFormatVersion") == 5


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "which bucket is for the results?"),
        (("--bucket", "not-there"), "there is no bucket not-there; --create-bucket not-there"),
    ],
)
def test_mistakes_cost_nothing(
    account: World, cloud: Endpoint, words: tuple[str, ...], told: str
) -> None:
    """Half of it would be made, and the other half refused."""
    done = account.call("setup", *words, "--yes")
    assert done.returncode == 2, done
    assert told in done.stderr
    assert client(cloud, "cloudformation").describe_stacks()["Stacks"] == []


def test_a_role_that_isnt_ours_is_left_alone(account: World, cloud: Endpoint) -> None:
    """CloudFormation would roll back after a minute, with other words."""
    trust = json.dumps({"Version": "2012-10-17", "Statement": []})
    client(cloud, "iam").create_role(RoleName=names.PROFILE, AssumeRolePolicyDocument=trust)
    done = account.call("setup", "--create-bucket", "b-b", "--yes")
    assert done.returncode == 2
    assert "a role runner-instance that `runner setup` has not made" in done.stderr


def test_a_bucket_that_is_there_is_used(account: World, cloud: Endpoint) -> None:
    """A bucket full of results would be taken for a new one."""
    client(cloud, "s3").create_bucket(Bucket="mine")
    refused = account.call("setup", "--create-bucket", "mine", "--yes")
    assert refused.returncode == 2
    assert "the bucket mine is there already: --bucket mine uses it" in refused.stderr
    done = account.call("setup", "--bucket", "mine", "--yes")
    assert done.returncode == 0, done
    assert "runner-bucket-mine" not in done.stdout
    assert "aws iam attach-user-policy" in done.stderr


def test_what_another_made_is_refused_before_anything_is_made(
    account: World, cloud: Endpoint
) -> None:
    """Bucket and role would be made before CloudFormation says that the policy is there."""
    allowed = {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [allowed]})
    client(cloud, "iam").create_policy(PolicyName=names.LOOK_POLICY, PolicyDocument=document)
    done = account.call("setup", "--create-bucket", "my-results", "--yes")
    assert done.returncode == 2
    assert f"made by no stack of `runner setup` that is there: policy {names.LOOK_POLICY}" in (
        done.stderr
    )
    assert client(cloud, "cloudformation").list_stacks()["StackSummaries"] == []
    assert client(cloud, "s3").list_buckets()["Buckets"] == []


def test_what_a_failed_setup_left_is_named_with_what_removes_it(
    account: World, cloud: Endpoint
) -> None:
    """Each later setup would say EntityAlreadyExists, and nobody how that ends."""
    iam, tags = client(cloud, "iam"), [{"Key": names.HOME, "Value": "us-east-1"}]
    iam.create_role(RoleName=names.PROFILE, AssumeRolePolicyDocument="{}", Tags=tags)
    allowed = {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [allowed]})
    iam.put_role_policy(RoleName=names.PROFILE, PolicyName="runner", PolicyDocument=document)
    iam.create_instance_profile(InstanceProfileName=names.PROFILE)
    iam.add_role_to_instance_profile(InstanceProfileName=names.PROFILE, RoleName=names.PROFILE)
    iam.create_policy(PolicyName=names.LAUNCH_POLICY, PolicyDocument=document)
    words = {"schemaVersion": "2.2", "mainSteps": []}
    client(cloud, "ssm").create_document(
        Name=names.LOOK_DOCUMENT, Content=json.dumps(words), DocumentType="Command"
    )
    done = account.call("setup", "--create-bucket", "my-results", "--yes")
    assert done.returncode == 2, done
    commands = [line.partition("aws ")[2].split() for line in done.stderr.splitlines()
                if "  aws " in line]  # fmt: skip
    assert len(commands) == 6
    for service, operation, *flags in commands:
        given = {_camel(flag): value for flag, value in zip(flags[::2], flags[1::2], strict=True)}
        given.pop("Region", None)
        getattr(client(cloud, service), operation.replace("-", "_"))(**given)
    assert account.call("setup", "--create-bucket", "my-results", "--yes").returncode == 0


def _camel(flag: str) -> str:
    """A flag of AWS's command line as boto3 spells it."""
    return "".join(word.capitalize() for word in flag.strip("-").split("-"))


CUTS = [
    (operation, number)
    for operation in ("CreateChangeSet", "ExecuteChangeSet")
    for number in range(3)
]
"""Each is done, and the command killed before it hears of it: the answer is held."""


@pytest.mark.long
@pytest.mark.parametrize(("operation", "number"), CUTS)
def test_the_same_setup_after_a_sigkill_makes_the_rest(
    operation: str, number: int, account: World, cloud: Endpoint
) -> None:
    """An account would be half made for ever."""
    rude = RudeEc2(cloud.port)
    try:
        rude.order(operation, *[Pass()] * number, Hold(done=True))
        words = [sys.executable, "-m", "runner", "setup", "--create-bucket", "my-results", "--yes"]
        env = {**account.env, "AWS_ENDPOINT_URL": rude.url}
        process = Process(
            words, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        rude.wait_held()
        process.kill()
        process.communicate()
    finally:
        rude.close()
    again = account.call("setup", "--create-bucket", "my-results", "--yes")
    assert again.returncode == 0, again
    stacks = client(cloud, "cloudformation").describe_stacks()["Stacks"]
    assert {each["StackStatus"] for each in stacks} == {"CREATE_COMPLETE"}
    assert len({each["StackName"] for each in stacks}) == 3
