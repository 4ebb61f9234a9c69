"""The permissions that ship: no wider than they are meant to be, and made of what AWS knows."""

from __future__ import annotations

import json
import re
import tomllib
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore import xform_name
from moto.iam.aws_managed_policies import aws_managed_policies_data
from templates import (
    GIVEN,
    actions,
    batch_policies,
    loaded,
    policies,
    resources,
    schedule_policies,
    words,
)

from runner.aws.scheduler import DEAD_LETTERS, GROUP, ROLE
from runner.fleet.task_queue import queue_names
from runner.results.layout import Layout
from runner.targets.ec2 import names
from runner.targets.ec2.account import iam
from runner.targets.ec2.account.setup import WORDS, SetupRequest, permissions
from runner.targets.ec2.account.stack_plans import bucket_stack
from runner.targets.ec2.launch.launch_options import NAME as RECIPE

ROOT = Path(__file__).parents[2]
POLICIES = policies() | batch_policies() | schedule_policies()

READING = ("Describe", "Get", "List")

EVERYWHERE = {
    # SSM's agent speaks for its own machine: these know no resources.
    *(a for s in POLICIES["role"]["Statement"] if s["Sid"] == "SsmAgent" for a in s["Action"]),
}


@pytest.mark.parametrize("who", POLICIES)
def test_what_changes_something_is_held_to_a_place(who: str) -> None:
    """A job, or a colleague, could end machines that have nothing to do with runner."""
    for each in POLICIES[who]["Statement"]:
        changing = [
            action
            for action in words(each["Action"])
            if not action.split(":")[1].startswith(READING) and action not in EVERYWHERE
        ]
        assert each["Effect"] == "Allow"
        assert not (changing and "*" in words(each["Resource"])), each
        for action in words(each["Action"]):
            assert "*" not in action, "an action of tomorrow would be allowed today"


@pytest.mark.parametrize("who", POLICIES)
def test_what_reaches_all_instances_has_a_condition(who: str) -> None:
    """Without it the ARN says nothing: every instance of the account has such a one."""
    for each in POLICIES[who]["Statement"]:
        for arn in words(each["Resource"]):
            if re.search(r":(instance|volume|network-interface|spot-instances-request)/\*$", arn):
                (condition,) = each["Condition"].values()
                (key,) = condition
                assert key.endswith(names.QUEUE) or key in (
                    "ec2:SourceInstanceARN",
                    "ec2:CreateAction",
                ), each


def test_a_machine_ends_itself_only() -> None:
    """A job could terminate the neighbours: it can take the machine's credentials."""
    (end,) = [s for s in POLICIES["role"]["Statement"] if "TerminateInstances" in str(s["Action"])]
    assert end["Action"] == "ec2:TerminateInstances"
    # A policy variable: IAM fills it in, not CloudFormation.
    own = "arn:aws:ec2:*:123456789012:instance/${ec2:InstanceID}"
    assert end["Condition"] == {"ArnLike": {"ec2:SourceInstanceARN": own}}


def test_a_prefix_is_a_condition_of_listing_only() -> None:
    """Under s3:prefix other actions are denied, which no fake tells."""
    for who, policy in POLICIES.items():
        person = who in ("launch", "look", "batch")
        below = ["queues/*", "team-a/*", *(["runner/*"] if person else [])]
        for each in policy["Statement"]:
            if "s3:prefix" in json.dumps(each.get("Condition", {})):
                assert words(each["Action"]) == ["s3:ListBucket"]
                # Without IfExists S3 would say 403, not 404, of a key that isn't there.
                assert list(each["Condition"]) == ["StringLikeIfExists"]
                prefixes = each["Condition"]["StringLikeIfExists"]["s3:prefix"]
                assert prefixes == below


def test_objects_are_those_of_our_prefixes() -> None:
    """A queue could write over another team's data in the same bucket."""
    below = {
        "role": {
            "queues/*",
            "team-a/*",
            "runner/bundles/*",
            *(f"runner/launches/*/{name}" for name in _TO_MACHINES),
            "runner/launches/*/bootstrap.*",
            "runner/schedules/*/queue.json",
            "runner/schedules/*/workdir.tar.gz",
        },
        "scheduler": set(),
        "schedule": set(),
        "launch": {"queues/*", "team-a/*", "runner/*"},
        "look": {
            f"{prefix}/{name}"
            for prefix in ("queues/*", "team-a/*")
            for name in ("queue-state.json", "lease.json", "jobs/*", "events/*")
        }
        | {"runner/index/*", "runner/launches/*/bootstrap.*"},
        "batch-job": {
            *("queues/*", "team-a/*", "runner/bundles/*", "queues/*/jobs/*", "team-a/*/jobs/*"),
            *("queues/*/work/*", "team-a/*/work/*"),
        },
        "batch-execution": set(),
        "notices": set(),
        "batch-coordinator": {"queues/*", "team-a/*", "runner/bundles/*", "runner/launches/*"},
        "batch": {"queues/*", "team-a/*", "runner/*"},
    }
    for who, policy in POLICIES.items():
        found = {
            arn.partition("/")[2]
            for each in policy["Statement"]
            for arn in words(each["Resource"])
            if arn.startswith("arn:aws:s3:::") and "/" in arn
        }
        assert found == below[who]


_TO_MACHINES = ("queue.json", "workdir.tar.gz", "submit-*.json")
"""What a launch ships that its machine reads."""


def test_a_job_writes_nothing_that_a_launch_goes_by() -> None:
    """A job could plan the machine that a person launches next: its image, role, key, code."""

    def may(action: str, key: str) -> bool:
        return any(
            action in words(each["Action"]) and fnmatchcase(f"arn:aws:s3:::one/{key}", arn)
            for each in POLICIES["role"]["Statement"]
            for arn in words(each["Resource"])
        )

    of_launches = [RECIPE, "queue.json", "workdir.tar.gz", "submit-0123.json"]
    decide = [names.launch_key("l", name) for name in of_launches]
    decide += [names.schedule_key("l", name) for name in of_launches]
    decide += [names.index_key("q"), names.bundle_key("0" * 64, "x86_64"), "runner/.probe"]
    decide += [f"{names.ending_folder('i-1')}a.json", names.machine_line("i-1", "q", "s3://b/q")]
    for action in ("s3:PutObject", "s3:DeleteObject"):
        assert [key for key in decide if may(action, key)] == []
        assert may(action, "queues/q/queue-state.json")
    for name in ("bootstrap.json", "bootstrap.log"):
        assert may("s3:PutObject", names.launch_key("l", name))
    assert may("s3:GetObject", names.launch_key("l", "queue.json"))
    assert not may("s3:GetObject", names.launch_key("l", RECIPE))


def test_who_looks_reads_no_values_of_variables() -> None:
    """The document would tell in the bucket what the socket for looking hides."""
    readable = [
        arn.partition("/")[2]
        for each in POLICIES["look"]["Statement"]
        if "s3:GetObject" in words(each["Action"])
        for arn in words(each["Resource"])
    ]

    def may_read(key: str) -> bool:
        return any(fnmatchcase(key, pattern) for pattern in readable)

    layout = Layout()
    for key in (
        layout.state_key, layout.lease_key, layout.manifest_key("j"), layout.stdout_key("j"),
        layout.file_key("j", "a/b"), layout.log_part_key("j", 1, "stdout", 0),
    ):  # fmt: skip
        assert may_read(f"queues/q/{key}"), key
    assert may_read(names.index_key("q")) and may_read(names.launch_key("l", "bootstrap.log"))
    shipped = ("queue.json", "workdir.tar.gz", "submit-0123.json")
    hidden = [f"queues/q/{layout.document_key}", *(names.launch_key("l", name) for name in shipped)]
    for key in hidden:
        assert not may_read(key), key


def test_who_looks_acts_on_nothing() -> None:
    """The looker's policy would be a shell by another name."""
    changing = {a for a in actions(POLICIES["look"]) if not a.split(":")[1].startswith(READING)}
    assert changing == {"ssm:SendCommand", "kms:Decrypt"}
    documents = [
        arn
        for each in POLICIES["look"]["Statement"]
        if "ssm:SendCommand" in words(each["Action"])
        for arn in words(each["Resource"])
        if ":document/" in arn
    ]
    assert documents == [f"arn:aws:ssm:*:123456789012:document/{names.LOOK_DOCUMENT}"]


def test_the_role_is_given_to_ec2_only() -> None:
    """With another service's help who launches could become the role, or more."""
    given = {s["Sid"]: s for s in POLICIES["launch"]["Statement"] if s["Action"] == "iam:PassRole"}
    assert given.keys() == {"GiveRole", "GiveNotices"}
    notices = given["GiveNotices"]
    assert notices["Resource"] == "arn:aws:iam::123456789012:role/runner-notices"
    assert notices["Condition"] == {
        "StringEquals": {"iam:PassedToService": "scheduler.amazonaws.com"}
    }
    give = given["GiveRole"]
    assert give["Resource"] == "arn:aws:iam::123456789012:role/runner-instance"
    assert give["Condition"] == {"StringEquals": {"iam:PassedToService": "ec2.amazonaws.com"}}


def test_a_shell_can_be_withheld() -> None:
    """`--no-shell` would be a promise that nothing keeps."""
    with_shell, without = policies(AllowShell="yes")["launch"], policies(AllowShell="no")["launch"]
    assert "AWS-RunShellScript" in json.dumps(with_shell)
    gone = actions(with_shell) - actions(without)
    assert gone == {"ssm:StartSession", "ssm:ResumeSession", "ssm:TerminateSession"}
    assert "AWS-RunShellScript" not in json.dumps(without)


def test_secrets_and_keys_are_those_that_were_named() -> None:
    """A job could read all parameters of the account, as with AmazonSSMManagedInstanceCore."""
    bare = policies(SecretArns="", KmsKeyArn="")["role"]
    secret = {"ssm:GetParameters", "secretsmanager:GetSecretValue"}
    keys = {"kms:GenerateDataKey", "kms:Decrypt"}
    assert not actions(bare) & (secret | keys)
    full = POLICIES["role"]
    assert actions(full) - actions(bare) == secret | keys
    granted = {
        arn
        for each in full["Statement"]
        if set(words(each["Action"])) & (secret | keys)
        for arn in words(each["Resource"])
    }
    assert granted == {GIVEN["SecretArns"], GIVEN["KmsKeyArn"]}


def test_those_are_told_who_were_named() -> None:
    """A job could write to every topic of the account."""
    told = {"sns:Publish", "events:PutEvents"}
    for made, bare in (
        (POLICIES, policies(NoticeArns="")),
        (batch_policies(), batch_policies(NoticeArns="")),
    ):
        for who in bare:
            assert not actions(bare[who]) & told
        for who in {"role", "notices", "batch-coordinator"} & made.keys():
            (each,) = [s for s in made[who]["Statement"] if s["Sid"] == "Notices"]
            assert set(words(each["Action"])) == told
            assert words(each["Resource"]) == [GIVEN["NoticeArns"]]
    assert "notices" not in policies(NoticeArns="")


def test_fleets_are_served_where_it_was_asked_for() -> None:
    """Machines of a fleet could not take a task with the role that `setup` makes, or any job use
    the account's queues."""
    bare = policies(AllowFleet="no")
    for who, more in (("role", set[str]()), ("launch", _MAKING_QUEUES)):
        gained = actions(POLICIES[who]) - actions(bare[who])
        assert gained == _WORKING_QUEUES | more
        assert not any(action.startswith("sqs:") for action in actions(bare[who]))
        (each,) = [s for s in POLICIES[who]["Statement"] if s["Sid"] == "TaskQueues"]
        for name in queue_names("j"):
            assert fnmatchcase(f"arn:aws:sqs:eu-west-1:123456789012:{name}", each["Resource"])


_WORKING_QUEUES = {
    "sqs:ChangeMessageVisibility", "sqs:DeleteMessage", "sqs:ReceiveMessage", "sqs:SendMessage",
}  # fmt: skip
_MAKING_QUEUES = {
    "sqs:CreateQueue", "sqs:GetQueueAttributes", "sqs:GetQueueUrl", "sqs:PurgeQueue",
    "sqs:SetQueueAttributes",
}  # fmt: skip

_NO_CALL = {
    "iam:PassRole",
    "s3:GetEncryptionConfiguration",
    "s3:ListBucket",
    "s3:ListBucketMultipartUploads",
    "s3:ListMultipartUploadParts",
}
"""Actions by another name than their call's (Service Authorization Reference)."""
_MODELS = {"servicequotas": "service-quotas"}


@pytest.mark.parametrize("who", POLICIES)
def test_each_action_is_a_call_that_aws_knows(who: str) -> None:
    """IAM takes any word for an action: one that is misspelt denies, and says nothing."""
    session = botocore.session.get_session()
    for action in actions(POLICIES[who]) - _NO_CALL - EVERYWHERE:
        service, _, name = action.partition(":")
        model = session.get_service_model(_MODELS.get(service, service))
        assert name in model.operation_names, action


def test_the_agent_has_what_aws_gives_it_but_no_parameters() -> None:
    """Commands would not arrive; or a job could read what is kept for others."""
    core = json.loads(aws_managed_policies_data)["AmazonSSMManagedInstanceCore"]["Document"]
    assert actions(core) - {"ssm:GetParameter", "ssm:GetParameters"} == EVERYWHERE


_ASKED = re.compile(r"""["']([a-z0-9]+(?:_[a-z0-9]+)+)["']|\bclient\.([a-z]+_[a-z0-9_]+)\(""")
_SERVICES = (
    "ec2",
    "ssm",
    "pricing",
    "service-quotas",
    "secretsmanager",
    "batch",
    "ecr",
    "logs",
    "sns",
    "events",
    "scheduler",
)
"""Those of which each action is a call. CloudFormation and the rest of IAM are `setup`'s, whose
caller is an administrator."""
_WITHOUT = {"ssm:GetParameter"}


def test_each_call_in_the_code_is_in_a_policy() -> None:
    """Somebody adds a call, and everybody but administrators is refused."""
    session, granted = botocore.session.get_session(), set[str]()
    for policy in POLICIES.values():
        granted |= actions(policy)
    operations = {
        xform_name(name): f"{service.replace('-', '')}:{name}"
        for service in _SERVICES
        for name in session.get_service_model(service).operation_names
    }
    called = {
        operations[name]
        for path in (ROOT / "runner").rglob("*.py")
        for match in _ASKED.finditer(path.read_text())
        if (name := match[1] or match[2]) in operations
    }
    assert {"ec2:DescribeInstances", "ssm:DescribeDocument", "ec2:TerminateInstances"} <= called
    assert called - granted <= _WITHOUT, called - granted


def test_policies_are_as_large_as_iam_takes() -> None:
    """CloudFormation would refuse them after a minute (IAM quotas: whitespace doesn't count)."""
    for who in POLICIES:
        limit = 6144 if who in ("launch", "look", "batch", "schedule") else 10_240
        text = json.dumps(POLICIES[who], separators=(",", ":"))
        assert len(text) < limit * 0.95, f"{who}: {len(text)}"


@pytest.mark.parametrize("name", iam.TEMPLATES)
def test_templates_are_what_cloudformation_takes(name: str) -> None:
    """It replaces what isn't ASCII by `?`, and takes 51,200 bytes in a call."""
    text = iam.template(name)
    assert text.isascii() and len(text) < 51_200
    assert (ROOT / f"packaging/iam/{name}.yaml").read_text() == text


@pytest.mark.parametrize("name", iam.TEMPLATES)
def test_setup_says_what_each_resource_is(name: str) -> None:
    """Somebody agrees to what isn't shown."""
    assert set(WORDS[name]) == set(loaded(name)["Resources"])


def test_names_are_those_that_launch_looks_for() -> None:
    """What was set up would not be found."""
    made = resources(iam.PERMISSIONS, GIVEN)
    assert made["Role"]["RoleName"] == made["Profile"]["InstanceProfileName"] == names.PROFILE
    assert made["Launch"]["ManagedPolicyName"] == names.LAUNCH_POLICY
    assert made["Look"]["ManagedPolicyName"] == names.LOOK_POLICY
    assert made["Role"]["Tags"] == [{"Key": names.HOME, "Value": "us-east-1"}]
    documents = resources(iam.DOCUMENTS)
    assert [d["Name"] for d in documents.values()] == [names.LOOK_DOCUMENT, names.ACT_DOCUMENT]


def test_a_document_runs_one_program_with_one_word() -> None:
    """A request could be a command line of its own: {{ }} is put in as text (SSM User Guide)."""
    for made in resources(iam.DOCUMENTS).values():
        content = made["Content"]
        pattern = content["parameters"]["request"]["allowedPattern"]
        word = "eyJyZXF1ZXN0IjoicGluZyJ9"
        assert re.fullmatch(pattern, word)
        for bad in ("$(reboot)", "`id`", f"{word} x", f"{word};id", f"{word}\nid", f"-{word}"):
            assert not re.fullmatch(pattern, bad), bad
        (step,) = content["mainSteps"]
        (line,) = step["inputs"]["runCommand"]
        look = made["Name"] == names.LOOK_DOCUMENT
        assert ("--look-only" in line) == look
        assert line.count("{{") == 1


def test_a_bucket_outlives_its_stack_and_is_closed() -> None:
    """Deleting the stack would delete results, or they could be read by everybody."""
    store = loaded(iam.BUCKET)["Resources"]["Store"]
    # Only what a failed creation has just made goes with its stack: the next one would meet it.
    assert store["DeletionPolicy"] == "RetainExceptOnCreate"
    assert store["UpdateReplacePolicy"] == "Retain"
    made = resources(iam.BUCKET, {"Bucket": "b"})["Store"]
    assert set(made["PublicAccessBlockConfiguration"].values()) == {True}
    (rule,) = made["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert rule["ServerSideEncryptionByDefault"] == {"SSEAlgorithm": "AES256"}
    assert "VersioningConfiguration" not in made
    assert any(
        "AbortIncompleteMultipartUpload" in r for r in made["LifecycleConfiguration"]["Rules"]
    )
    own = resources(iam.BUCKET, {"Bucket": "b", "KmsKeyArn": "arn:k", "Versioning": "yes"})["Store"]
    (rule,) = own["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert rule["ServerSideEncryptionByDefault"]["KMSMasterKeyID"] == "arn:k"
    assert own["VersioningConfiguration"] == {"Status": "Enabled"}


def test_templates_are_in_what_is_installed() -> None:
    """`runner setup` would find nothing to deploy."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["tool"]["setuptools"]["package-data"][iam.__name__] == ["*.yaml"]


# -- what setup makes of flags ---------------------------------------------------------------


def wanted(**more: Any) -> SetupRequest:
    return SetupRequest(region="eu-west-1", **more)


def test_a_second_bucket_is_added() -> None:
    """Machines that run would lose the rights to the first, in the middle of their queues."""
    first = permissions({}, wanted(bucket="one"), "aws")
    assert first == {
        "BucketArns": "arn:aws:s3:::one",
        "ResultArns": "arn:aws:s3:::one/queues/*",
        "ResultPrefixes": "queues/*",
        "SecretArns": "",
        "NoticeArns": "",
        "KmsKeyArn": "",
        "AllowShell": "yes",
        "AllowFleet": "no",
    }
    flags = {"prefix": "/team-a/", "shell": False, "fleet": True}
    second = permissions(first, wanted(bucket="two", **flags), "aws")
    assert second["BucketArns"] == "arn:aws:s3:::one,arn:aws:s3:::two"
    assert second["ResultArns"] == "arn:aws:s3:::one/queues/*,arn:aws:s3:::two/team-a/*"
    assert second["ResultPrefixes"] == "queues/*,team-a/*"
    assert (second["AllowShell"], second["AllowFleet"]) == ("no", "yes")
    assert permissions(second, wanted(), "aws") == second
    assert permissions(second, wanted(bucket="two", prefix="team-a"), "aws") == second


def test_another_partition_has_other_arns() -> None:
    """In China and GovCloud nothing would be allowed."""
    made = permissions({}, wanted(bucket="b"), "aws-cn")
    assert made["ResultArns"] == "arn:aws-cn:s3:::b/queues/*"


def test_a_buckets_stack_has_a_name_that_may_be() -> None:
    """CloudFormation refuses dots."""
    assert bucket_stack("a.b-c") == "runner-bucket-a-b-c"


def test_the_scheduler_launches_machines_of_ours_and_no_more() -> None:
    """Whoever may make a schedule could have the Scheduler do what they may not."""
    made = resources(iam.SCHEDULE_PERMISSIONS)["SchedulerRole"]
    assert made["RoleName"] == ROLE
    (trust,) = made["AssumeRolePolicyDocument"]["Statement"]
    assert trust["Principal"] == {"Service": "scheduler.amazonaws.com"}
    group = f"arn:aws:scheduler:*:123456789012:schedule-group/{GROUP}"
    assert trust["Condition"] == {
        "StringEquals": {"aws:SourceAccount": "123456789012"},
        "ArnLike": {"aws:SourceArn": group},
    }
    policy = POLICIES["scheduler"]
    assert actions(policy) == {
        "ec2:RunInstances",
        "ec2:CreateTags",
        "iam:PassRole",
        "iam:CreateServiceLinkedRole",
        "sqs:SendMessage",
    }
    launch = {s["Sid"]: s for s in POLICIES["launch"]["Statement"]}
    for each in policy["Statement"]:
        if each["Sid"] in launch:
            assert each == launch[each["Sid"]], "it may not more than who launches by hand"
    (give,) = [s for s in policy["Statement"] if s["Action"] == "iam:PassRole"]
    assert give["Resource"] == "arn:aws:iam::123456789012:role/runner-instance"
    (give,) = [s for s in POLICIES["schedule"]["Statement"] if s["Action"] == "iam:PassRole"]
    assert give["Resource"] == f"arn:aws:iam::123456789012:role/{ROLE}"
    assert give["Condition"] == {"StringEquals": {"iam:PassedToService": "scheduler.amazonaws.com"}}


def test_what_schedules_name_is_what_setup_makes() -> None:
    """A schedule would be made in a group that isn't there, or its failures be lost."""
    made = resources(iam.SCHEDULES)
    assert made["Group"]["Name"] == GROUP
    assert made["DeadLetters"]["QueueName"] == DEAD_LETTERS
    assert resources(iam.SCHEDULE_PERMISSIONS)["Schedule"]["ManagedPolicyName"] == (
        names.SCHEDULE_POLICY
    )
