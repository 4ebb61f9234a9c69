"""`runner setup --batch` and `runner doctor --batch` against moto and the tests' Batch server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from batch_account import BatchAccount
from batch_server import KeptLogs, Processes
from mended_moto import MENDED
from s3_endpoint import Endpoint

from runner.cli.main import run_command
from runner.targets.batch.account import names
from runner.targets.batch.account.doctor import examination

REPOSITORY = "123456789012.dkr.ecr.us-east-1.amazonaws.com/tools"


@pytest.fixture(scope="module")
def cloud() -> Iterator[Endpoint]:
    endpoint = Endpoint(mended=MENDED)
    yield endpoint
    endpoint.close()


@pytest.fixture
def here(cloud: Endpoint, monkeypatch: pytest.MonkeyPatch) -> Endpoint:
    """This process's AWS."""
    for name, value in cloud.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    # A machine that is busy with other tests is slow, not broken.
    monkeypatch.setattr(examination, "PATIENCE", 60.0)
    monkeypatch.setattr(examination, "FOR_WHO", 30.0)
    return cloud


def client(cloud: Endpoint, service: str) -> Any:
    return boto3.client(
        service,
        endpoint_url=cloud.url,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )


def call(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, Any]:
    code = run_command([*words, "--json"])
    return code, json.loads(capsys.readouterr().out)


@pytest.mark.long
def test_all_is_made_once_and_found_by_doctor(
    here: Endpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who follows the documentation could run nothing on Batch, or doctor not say what lacks."""
    _, found = call(capsys, "doctor", "--batch")
    lacks = {each["check"]: each["to_do"] for each in found if each["grade"] == "fail"}
    assert lacks.keys() >= {"job queue runner", f"role {names.JOB_ROLE}"}
    assert all("runner setup --batch" in todo for todo in lacks.values())

    words = ("setup", "--batch", "--create-bucket", "my-results", "--compute", "fargate", "--yes")
    code, made = call(capsys, *words)
    assert code == 0
    assert [(each["stack"], each["result"]) for each in made["stacks"]] == [
        ("runner-bucket-my-results", "created"),
        ("runner-batch-permissions", "created"),
        ("runner-batch-logs", "created"),
        ("runner-batch-queue-runner", "created"),
    ]
    (queue,) = client(here, "batch").describe_job_queues(jobQueues=["runner"])["jobQueues"]
    assert queue["computeEnvironmentOrder"][0]["computeEnvironment"].endswith("/runner-FARGATE")
    _, again = call(capsys, *words)
    assert {each["result"] for each in again["stacks"]} == {"unchanged"}
    _, more = call(capsys, "setup", "--batch", "--definition", "tools-*", "--yes")
    assert [each["result"] for each in more["stacks"]] == ["updated", "unchanged"]

    ecr = client(here, "ecr")
    ecr.create_repository(repositoryName="tools")
    _, found = call(capsys, "doctor", "--batch", "--image", f"{REPOSITORY}:9")
    told = {each["check"]: each for each in found}
    assert told.pop(f"image {REPOSITORY}:9")["says"] == "the repository has no image 9"
    # moto's VPC has no way out.
    assert told.pop("network of runner-FARGATE")["says"].startswith("no route to the internet")
    assert {each["grade"] for each in told.values()} == {"ok"}, told
    assert told["bucket my-results: use"]["says"] == "written, listed, read and removed"
    assert told["log group"]["says"] == "/aws/batch/job keeps lines for 30 days"

    each = {"Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
    trust = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", **each}]}
    client(here, "iam").update_assume_role_policy(
        RoleName=names.EXECUTION_ROLE, PolicyDocument=json.dumps(trust)
    )
    _, found = call(capsys, "doctor", "--batch")
    role = {each["check"]: each for each in found}[f"role {names.EXECUTION_ROLE}"]
    assert role["grade"] == "fail" and "ecs-tasks.amazonaws.com" in role["to_do"]


def test_what_stands_in_the_way_of_jobs_is_told(
    here: Endpoint, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Jobs would be RUNNABLE for ever, and doctor see nothing wrong."""
    batch = BatchAccount(Processes(KeptLogs()))
    monkeypatch.setenv("AWS_ENDPOINT_URL_BATCH", batch.server.url)
    (subnet, *_) = client(here, "ec2").describe_subnets()["Subnets"]
    shown: dict[str, object] = {"subnets": [subnet["SubnetId"]]}
    bad = batch.server.add_environment(
        "bad", kind="FARGATE", invalid="CLIENT_ERROR - no role", shown=shown
    )
    off = batch.server.add_environment("off", enabled=False, shown={"subnets": []})
    batch.server.add_queue("wrong", bad, off)
    code, found = call(capsys, "doctor", "--batch", "--job-queue", "wrong")
    told = {each["check"]: each for each in found}
    assert code == 1
    assert told["compute environment bad"]["says"] == ("ENABLED, INVALID (CLIENT_ERROR - no role)")
    assert "--state ENABLED" in told["compute environment off"]["to_do"]
    assert told["network of bad"]["grade"] == "fail"
    batch.close()
