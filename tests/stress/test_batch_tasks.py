"""What the tests' Batch server gives a task: roles' keys, metadata, secrets, GPUs, paths."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from batch_account import WAIT, BatchAccount, container, requirements
from batch_server import Delays, KeptLogs, MotoServices, NoServices, Processes, Rights, Settings
from botocore.credentials import ContainerProvider
from botocore.exceptions import ClientError
from guarded import Guarded

INSTANT = Delays(submitted=(0, 1), runnable=(0, 1), starting=(0, 1), ended=(0, 1))
ROLE = "arn:aws:iam::123456789012:role/job"
EXECUTION = "arn:aws:iam::123456789012:role/execution"
STAYS = "trap 'exit 0' TERM; env; while :; do sleep 0.01; done"
"""A container that tells its variables, and ends when it is told to."""


@pytest.fixture
def logs() -> KeptLogs:
    return KeptLogs()


@pytest.fixture
def batch(logs: KeptLogs) -> Iterator[BatchAccount]:
    """Batch's second is 10 ms here."""
    made = BatchAccount(Processes(logs), Settings(delays=INSTANT, rates={}))
    yield made
    made.close()


@pytest.fixture(scope="module")
def guarded() -> Iterator[Guarded]:
    made = Guarded()
    yield made
    made.endpoint.close()


@pytest.fixture
def enforced(logs: KeptLogs, guarded: Guarded) -> Iterator[BatchAccount]:
    """An account in which roles are what their policies say."""
    services = MotoServices(guarded.endpoint.url, admin=guarded.admin())
    made = BatchAccount(Processes(logs), Settings(delays=INSTANT, rates={}), services)
    yield made
    made.close()


def env_of(batch: BatchAccount, logs: KeptLogs, job: str) -> dict[str, str]:
    """The variables of a running container that has told them."""
    stream = batch.wait(job, "RUNNING")["container"]["logStreamName"]
    deadline = time.monotonic() + WAIT
    while True:
        told = [line.decode() for line in logs.lines[stream]]
        # What env prints last is what sh has set itself.
        if any(line.startswith("PWD=") for line in told):
            time_left = [line for line in told if "=" in line]
            return dict(line.split("=", 1) for line in time_left)
        assert time.monotonic() < deadline
        time.sleep(0.01)


def asked(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)


def test_task_has_the_keys_of_its_job_role(batch: BatchAccount, logs: KeptLogs) -> None:
    """What runs in a container would be tried with keys that it hasn't at AWS."""
    batch.register("roled", command=["sh", "-c", STAYS], jobRoleArn=ROLE)
    job = batch.start("roled")
    env = env_of(batch, logs, job)
    url = env["AWS_CONTAINER_CREDENTIALS_FULL_URI"]
    told = asked(url)
    assert told.keys() == {"RoleArn", "AccessKeyId", "SecretAccessKey", "Token", "Expiration"}
    assert told["RoleArn"] == ROLE
    provider = ContainerProvider(environ={"AWS_CONTAINER_CREDENTIALS_FULL_URI": url})
    found = provider.load().get_frozen_credentials()
    assert found.token == told["Token"]
    batch.client.terminate_job(jobId=job, reason="seen")
    batch.wait(job)
    with pytest.raises(urllib.error.HTTPError, match="404"):
        asked(url)


def test_task_without_a_role_has_no_keys(batch: BatchAccount, logs: KeptLogs) -> None:
    """A definition that lacks its role would work in the tests only."""
    batch.register("plain", command=["sh", "-c", STAYS])
    env = env_of(batch, logs, batch.start("plain"))
    assert not {name for name in env if "CREDENTIALS" in name or name == "AWS_ACCESS_KEY_ID"}
    assert env["AWS_EXECUTION_ENV"] == "AWS_ECS_EC2" and "AWS_REGION" not in env


def test_keys_are_renewed_before_they_expire(logs: KeptLogs) -> None:
    """A container that keeps its first keys for ever would pass the tests."""
    settings = Settings(delays=INSTANT, rates={})
    batch = BatchAccount(Processes(logs), settings, NoServices(lifetime_s=0.02))
    batch.register("roled", command=["sh", "-c", STAYS], jobRoleArn=ROLE)
    url = env_of(batch, logs, batch.start("roled"))["AWS_CONTAINER_CREDENTIALS_FULL_URI"]
    first = asked(url)["Token"]
    deadline = time.monotonic() + WAIT
    while asked(url)["Token"] == first:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    batch.close()


def test_metadata_tells_how_the_other_containers_stand(batch: BatchAccount, logs: KeptLogs) -> None:
    """A side container could not learn that the user's has ended, or how."""
    small = {"resourceRequirements": requirements(1, 64), "image": "local/deb"}
    containers = [
        {**small, "name": "main", "essential": False, "command": ["sh", "-c", "exit 7"]},
        {
            **small,
            "name": "late",
            "essential": False,
            "command": ["true"],
            "dependsOn": [{"containerName": "agent", "condition": "START"}],
        },
        {
            **small,
            "name": "agent",
            "command": ["sh", "-c", STAYS],
            "dependsOn": [{"containerName": "main", "condition": "COMPLETE"}],
        },
    ]
    batch.client.register_job_definition(
        jobDefinitionName="several",
        type="container",
        ecsProperties={"taskProperties": [{"containers": containers}]},
    )
    job = batch.start("several")

    def streams(detail: dict[str, Any]) -> dict[str, str]:
        (task,) = detail["ecsProperties"]["taskProperties"]
        return {each["name"]: each["logStreamName"] for each in task["containers"]}

    stream = streams(batch.wait(job, "RUNNING"))["agent"]
    deadline = time.monotonic() + WAIT
    while not any(line.startswith(b"PWD=") for line in logs.lines[stream]):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    env = dict(line.decode().split("=", 1) for line in logs.lines[stream] if b"=" in line)
    own = asked(env["ECS_CONTAINER_METADATA_URI_V4"])
    assert (own["Name"], own["KnownStatus"]) == ("agent", "RUNNING") and "ExitCode" not in own
    task = asked(env["ECS_CONTAINER_METADATA_URI_V4"] + "/task")
    assert task["TaskARN"] == batch.job(job)["ecsProperties"]["taskProperties"][0]["taskArn"]
    found = {each["Name"]: each for each in task["Containers"]}
    assert (found["main"]["KnownStatus"], found["main"]["ExitCode"]) == ("STOPPED", 7)
    assert found["main"]["StartedAt"] <= found["main"]["FinishedAt"]
    assert found.keys() == {"main", "late", "agent"}
    batch.client.terminate_job(jobId=job, reason="seen")
    batch.wait(job)


def test_paths_of_volumes_are_those_of_this_machine(batch: BatchAccount, logs: KeptLogs) -> None:
    """Containers without Docker could share no files."""
    batch.register(
        "shared",
        command=["sh", "-c", 'echo staged >"$WORK/f" && cat "$0"', "/work/f"],
        environment=[{"name": "WORK", "value": "/work"}, {"name": "OTHER", "value": "/workshop"}],
        volumes=[{"name": "v"}],
        mountPoints=[{"sourceVolume": "v", "containerPath": "/work"}],
    )
    job = batch.wait(batch.start("shared"))
    assert logs.lines[job["container"]["logStreamName"]] == [b"staged"]


def test_role_that_ecs_cannot_take_is_told(enforced: BatchAccount, guarded: Guarded) -> None:
    """A role without trust would do in the tests, and never at AWS."""
    with guarded.off_guard():
        guarded.make_role("strange", allow("s3:*", on="*"), service="ec2.amazonaws.com")
    for name in ("strange", "nobody"):
        role = f"arn:aws:iam::123456789012:role/{name}"
        enforced.register(name, jobRoleArn=role)
        job = enforced.wait(enforced.start(name))
        assert job["status"] == "FAILED" and "startedAt" not in job["attempts"][0]
        assert job["statusReason"].startswith(f"ECS was unable to assume the role '{role}'")


PUT = """
import boto3, sys
s3 = boto3.client("s3", region_name="us-east-1")
for key in sys.argv[2:]:
    try:
        s3.put_object(Bucket=sys.argv[1], Key=key, Body=b"x")
    except Exception as error:
        print(key, error.response["Error"]["Code"])
    else:
        print(key, "written")
"""


def allow(*actions: str, on: str) -> dict[str, Any]:
    statement = {"Effect": "Allow", "Action": list(actions), "Resource": on}
    return {"Version": "2012-10-17", "Statement": [statement]}


def test_job_may_do_what_its_role_may(
    enforced: BatchAccount, guarded: Guarded, logs: KeptLogs
) -> None:
    """A role with too few rights would be found by the first user only."""
    with guarded.off_guard():
        guarded.make_role("job", allow("s3:PutObject", on=f"arn:aws:s3:::{guarded.bucket}/mine/*"))
    command = ["python3", "-c", PUT, guarded.bucket, "mine/a", "theirs/a"]
    enforced.register("puts", command=command, jobRoleArn=ROLE)
    stream = enforced.wait(enforced.start("puts"))["container"]["logStreamName"]
    assert logs.lines[stream] == [b"mine/a written", b"theirs/a AccessDenied"]


def test_secrets_are_read_with_the_execution_role(
    enforced: BatchAccount, guarded: Guarded, logs: KeptLogs
) -> None:
    """A secret would be had without the right to it, or its lack be told otherwise than by ECS."""
    with guarded.off_guard():
        ssm, manager = guarded.client("ssm"), guarded.client("secretsmanager")
        ssm.put_parameter(Name="/hf/token", Value="one", Type="SecureString")
        text = json.dumps({"password": "two"})
        arn = manager.create_secret(Name="db", SecretString=text)["ARN"]
        rights = allow("ssm:GetParameters", "secretsmanager:GetSecretValue", on="*")
        guarded.make_role("execution", rights)
        guarded.make_role("poor", allow("s3:GetObject", on="*"))
    secrets = [
        {"name": "TOKEN", "valueFrom": "arn:aws:ssm:us-east-1:123456789012:parameter/hf/token"},
        {"name": "PASSWORD", "valueFrom": f"{arn}:password::"},
    ]
    command = ["sh", "-c", 'echo "$TOKEN $PASSWORD"']
    enforced.register("rich", command=command, secrets=secrets, executionRoleArn=EXECUTION)
    job = enforced.wait(enforced.start("rich"))
    assert logs.lines[job["container"]["logStreamName"]] == [b"one two"]
    assert job["container"]["secrets"] == secrets

    ends = {}
    for name, role, wanted in (
        ("poor", EXECUTION.replace("execution", "poor"), secrets),
        ("none", None, secrets),
        ("gone", EXECUTION, [{"name": "X", "valueFrom": "/not/there"}]),
    ):
        more = {} if role is None else {"executionRoleArn": role}
        enforced.register(name, command=command, secrets=wanted, **more)
        ends[name] = enforced.wait(enforced.start(name))["statusReason"]
    assert all(text.startswith("ResourceInitializationError: unable") for text in ends.values())
    assert "AccessDenied" in ends["poor"]
    assert "execution role" in ends["none"]
    assert "/not/there" in ends["gone"]


def test_gpus_are_counted_and_named(batch: BatchAccount, logs: KeptLogs) -> None:
    """Two jobs would get one GPU, or a job wait for one that no instance has."""
    batch.environment.host_gpus = 2
    gpu = [*requirements(1, 64), {"type": "GPU", "value": "1"}]
    batch.register("gpu", command=["sh", "-c", STAYS], resourceRequirements=gpu)
    jobs = [batch.start("gpu") for _ in range(3)]
    seen = {env_of(batch, logs, job)["NVIDIA_VISIBLE_DEVICES"] for job in jobs}
    assert len(seen) == 3 and all(each.startswith("GPU-") for each in seen)
    details = [batch.job(job)["container"] for job in jobs]
    hosts = [each["containerInstanceArn"] for each in details]
    assert sorted(hosts.count(each) for each in {*hosts}) == [1, 2]
    many = [*requirements(1, 64), {"type": "GPU", "value": "3"}]
    large = batch.start("gpu", containerOverrides={"resourceRequirements": many})
    stuck = batch.wait(large, lambda job: "statusReason" in job)
    assert stuck["statusReason"] == "MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT"


def test_definition_names_its_log_group(batch: BatchAccount) -> None:
    """Lines would be looked for where Batch doesn't put them."""
    options = {"awslogs-group": "/runner/batch", "awslogs-stream-prefix": "mine"}
    logging = {"logDriver": "awslogs", "options": options}
    batch.register("logs", logConfiguration=logging)
    job = batch.wait(batch.start("logs"))
    assert job["container"]["logStreamName"].startswith("mine/default/")
    assert (
        container(logConfiguration=logging)["logConfiguration"]
        == (job["container"]["logConfiguration"])
    )


def test_calls_are_those_that_the_caller_may(guarded: Guarded) -> None:
    """A policy that lacks a right, or has one too many, would do in the tests."""
    services, settings = MotoServices(guarded.endpoint.url, admin=guarded.admin()), Settings()
    keys = guarded.env["AWS_ACCESS_KEY_ID"], guarded.env["AWS_SECRET_ACCESS_KEY"]
    batch = BatchAccount(
        Processes(KeptLogs()), settings, services, rights=Rights(services, settings), keys=keys
    )
    ours = "arn:aws:batch:us-east-1:123456789012:job-definition/ours-*"
    queue = "arn:aws:batch:us-east-1:123456789012:job-queue/*"
    statements = [
        {"Effect": "Allow", "Action": "batch:RegisterJobDefinition", "Resource": ours},
        {"Effect": "Allow", "Action": "batch:SubmitJob", "Resource": [ours, queue]},
        {"Effect": "Allow", "Action": "iam:PassRole", "Resource": ROLE},
    ]
    guarded.allow({"Version": "2012-10-17", "Statement": statements})
    batch.register("ours-a", jobRoleArn=ROLE)
    batch.start("ours-a")
    calls = {
        "iam:PassRole": lambda: batch.register("ours-b", jobRoleArn=EXECUTION),
        "batch:RegisterJobDefinition": lambda: batch.register("theirs"),
        "batch:TagResource": lambda: batch.start("ours-a", tags={"a": "b"}),
        "batch:DescribeJobs": lambda: batch.client.describe_jobs(jobs=["x"]),
        "batch:TerminateJob": lambda: batch.client.terminate_job(jobId="x", reason="y"),
    }
    for action, call in calls.items():
        with pytest.raises(ClientError, match="AccessDeniedException") as caught:
            call()
        assert f"not authorized to perform: {action}" in str(caught.value)
    batch.close()
