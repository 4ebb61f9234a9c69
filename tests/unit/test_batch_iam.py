"""The permissions for AWS Batch that ship: what only they must hold."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from templates import GIVEN_ON_BATCH, actions, batch_policies, loaded, resources, words

from runner.results.layout import Layout
from runner.targets.batch.account import iam, names
from runner.targets.batch.account.setup import (
    WORDS,
    BatchSetupRequest,
    compute_stack,
    permissions,
)
from runner.targets.ec2 import names as ec2_names

ROOT = Path(__file__).parents[2]
POLICIES = batch_policies()


def may(who: str, action: str, arn: str) -> bool:
    return any(
        action in words(each["Action"]) and fnmatchcase(arn, pattern)
        for each in POLICIES[who]["Statement"]
        for pattern in words(each["Resource"])
    )


def test_a_job_writes_nothing_that_a_driver_goes_by() -> None:
    """COMMAND has its container's keys: it could submit, cancel or plan in a person's name."""
    layout = Layout()
    decide = [
        *(f"queues/q/{key}" for key in (layout.state_key, layout.lease_key, layout.document_key)),
        *("queues/q/submissions/t.json", "queues/q/control/c.json", "queues/q/events/1.json"),
        *(ec2_names.bundle_key("0" * 64, "x86_64"), ec2_names.launch_key("l", "queue.json")),
    ]
    for action in ("s3:PutObject", "s3:DeleteObject"):
        of_job = [key for key in decide if may("batch-job", action, f"arn:aws:s3:::one/{key}")]
        assert of_job == []
        assert may("batch-job", action, f"arn:aws:s3:::one/queues/q/{layout.stdout_key('j')}")
    for key in decide[:4]:
        assert may("batch-job", "s3:GetObject", f"arn:aws:s3:::one/{key}")
        assert may("batch-coordinator", "s3:PutObject", f"arn:aws:s3:::one/{key}")
    assert {action.partition(":")[0] for action in actions(POLICIES["batch-job"])} == {
        *("s3", "ssm", "secretsmanager", "kms"),
    }


@pytest.mark.parametrize("who", ["batch", "batch-coordinator"])
def test_roles_are_given_to_tasks_only(who: str) -> None:
    """With a definition of another's one could have its role, or give ours to another service."""
    (give,) = [each for each in POLICIES[who]["Statement"] if each["Action"] == "iam:PassRole"]
    assert give["Condition"] == {"StringEquals": {"iam:PassedToService": "ecs-tasks.amazonaws.com"}}
    given = {arn.rpartition("/")[2] for arn in give["Resource"]}
    coordinator = {names.COORDINATOR_ROLE} if who == "batch" else set()
    assert given == {names.JOB_ROLE, names.EXECUTION_ROLE} | coordinator
    ours = "arn:aws:batch:us-east-1:123456789012:job-definition/"
    for action in ("batch:SubmitJob", "batch:RegisterJobDefinition"):
        assert may(who, action, f"{ours}runner-0123:1")
        assert not may(who, action, f"{ours}admin:1")


def test_roles_trust_tasks_of_this_account_only() -> None:
    """No container would get its keys, or another account's would."""
    made = resources("batch-permissions", GIVEN_ON_BATCH)
    for name in ("JobRole", "ExecutionRole", "CoordinatorRole"):
        (trust,) = made[name]["AssumeRolePolicyDocument"]["Statement"]
        assert trust["Principal"] == {"Service": "ecs-tasks.amazonaws.com"}
        assert trust["Condition"] == {"StringEquals": {"aws:SourceAccount": "123456789012"}}
    roles = [each["RoleName"] for each in made.values() if "RoleName" in each]
    assert roles == [
        names.JOB_ROLE, names.EXECUTION_ROLE, names.COORDINATOR_ROLE, names.INSTANCE_ROLE,
    ]  # fmt: skip
    assert made["InstanceProfile"]["InstanceProfileName"] == names.INSTANCE_ROLE
    assert made["Drive"]["ManagedPolicyName"] == names.POLICY
    assert made["JobRole"]["Tags"] == [{"Key": ec2_names.HOME, "Value": "us-east-1"}]


def test_secrets_and_keys_are_those_that_were_named() -> None:
    """A job could read all parameters of the account."""
    bare = batch_policies(SecretArns="", KmsKeyArn="")
    for who in ("batch-job", "batch-execution"):
        assert not any("ssm:" in action or "kms:" in action for action in actions(bare[who]))
        secrets = [each for each in POLICIES[who]["Statement"] if each["Sid"] == "Secrets"]
        assert [each["Resource"] for each in secrets] == [[GIVEN_ON_BATCH["SecretArns"]]]


@pytest.mark.parametrize("name", iam.TEMPLATES)
def test_templates_are_what_cloudformation_takes(name: str) -> None:
    """It replaces what isn't ASCII by `?`, and takes 51,200 bytes in a call."""
    text = iam.template(name)
    assert text.isascii() and len(text) < 51_200
    assert (ROOT / f"packaging/iam/batch-{name}.yaml").read_text() == text
    if name != iam.EVENTS:  # a stack of its own: setup says nothing of it
        assert set(WORDS[name]) == set(loaded(f"batch-{name}")["Resources"])


def test_only_its_rule_may_fill_the_queue_for_events() -> None:
    """Anybody's rule, or topic, could ring the bell, and runner read what they send."""
    made = resources("batch-events", {"Driver": "a"})
    (statement,) = made["Rights"]["PolicyDocument"]["Statement"]
    assert statement["Principal"] == {"Service": "events.amazonaws.com"}
    assert statement["Action"] == "sqs:SendMessage" and "ArnEquals" in statement["Condition"]
    assert made["Events"]["QueueName"].startswith("runner-batch-events-")
    allowed = [each for each in POLICIES["batch"]["Statement"] if each["Sid"] == "Events"]
    assert fnmatchcase("runner-batch-events-a", allowed[0]["Resource"].rpartition(":")[2])


@pytest.mark.parametrize("kind", ["FARGATE", "FARGATE_SPOT", "EC2", "SPOT"])
def test_environment_has_what_its_kind_takes(kind: str) -> None:
    """Batch refuses a member that is another kind's (API reference, ComputeResource)."""
    given = {"Kind": kind, "Vpc": "vpc-1", "Subnets": "subnet-1,subnet-2"}
    made = resources("batch-compute", given)["Compute"]["ComputeResources"]
    common = {"Type", "MaxvCpus", "Subnets", "SecurityGroupIds"}
    of_ec2 = {"MinvCpus", "InstanceTypes", "InstanceRole", "AllocationStrategy"}
    assert made.keys() == common | (set() if kind.startswith("FARGATE") else of_ec2)
    assert made["Subnets"] == ["subnet-1", "subnet-2"]


def test_what_was_allowed_stays() -> None:
    """A second setup would take the first bucket, or a definition, from those who use it."""
    first = BatchSetupRequest("us-east-1", bucket="one", definitions=["tools-*"])
    told = permissions({}, first, "aws", "1")
    again = permissions(told, BatchSetupRequest("us-east-1", bucket="two", prefix="t"), "aws", "1")
    assert again["ResultArns"] == "arn:aws:s3:::one/queues/*,arn:aws:s3:::two/t/*"
    ours = "arn:aws:batch:*:1:job-definition"
    assert again["DefinitionArns"] == f"{ours}/runner-*,{ours}/tools-*"
    other = "arn:aws:ecr:*:763104351884:repository/pytorch-*"
    more = permissions(again, BatchSetupRequest("r", repositories=[other]), "aws", "1")
    assert more["RepositoryArns"] == f"arn:aws:ecr:*:1:repository/*,{other}"
    assert permissions(again, BatchSetupRequest("us-east-1"), "aws", "1") == again
    assert set(told) == set(loaded("batch-permissions")["Parameters"])
    assert compute_stack("my_queue") == "runner-batch-queue-my-queue"


def test_log_group_has_an_end_and_outlives_its_stack() -> None:
    """Lines of jobs would be kept for ever, or go with a stack."""
    lines = loaded("batch-logs")["Resources"]["Lines"]
    assert lines["DeletionPolicy"] == "RetainExceptOnCreate"
    made = resources("batch-logs")["Lines"]
    assert made == {"LogGroupName": names.LOG_GROUP, "RetentionInDays": 30}
