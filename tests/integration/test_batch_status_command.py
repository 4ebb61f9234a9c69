"""The command `runner-batch-status` against the tests' Batch server, and against moto's Batch."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from batch_account import BatchAccount
from batch_server import Delays, Fault, KeptLogs, Processes, Settings
from s3_endpoint import Endpoint

from runner.batch import monitor

INSTANT = Delays(submitted=(0, 1), runnable=(0, 1), starting=(0, 1), ended=(0, 1))
COMMAND = [sys.executable, "-c", "from runner.cli.main import batch_status; batch_status()"]


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[BatchAccount]:
    made = BatchAccount(Processes(KeptLogs()), Settings(delays=INSTANT, rates={}))
    made.register()
    for name, value in made.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(monitor, "UNKNOWN_PAUSES", (0.01,))
    yield made
    made.close()


def started(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "LOG_LEVEL": "ERROR"},
    )


def test_ctrl_c_leaves_the_job_alone(account: BatchAccount) -> None:
    """A user who ends the watching would end the job, or not know whether they did."""
    job = account.submit(["sleep", "60"])
    account.wait(job, "RUNNING")
    with started("--job-id", job, "--monitor", "--poll-interval", "600") as watch:
        assert watch.stdout is not None and watch.stderr is not None
        first = watch.stdout.readline()
        while "Status:" not in watch.stdout.readline():
            pass
        watch.send_signal(signal.SIGINT)
        assert "the job was left alone" in watch.stderr.read()
        assert watch.wait(30) == 0
    assert first.split() == ["Job:", job]
    assert account.job(job)["status"] == "RUNNING"
    assert {seen.operation for seen in account.server.seen} <= {
        "RegisterJobDefinition", "SubmitJob", "DescribeJobs"
    }  # fmt: skip


def test_job_is_watched_to_its_end(
    account: BatchAccount, capsys: pytest.CaptureFixture[str]
) -> None:
    """A state, the end or the exit code of a job would not be shown."""
    account.server.set_placing(account.environment, False)
    job = account.submit("echo hello; exit 3")
    account.wait(job, "RUNNABLE")
    looks = iter([lambda: account.server.set_placing(account.environment, True)])

    def pause(_: float) -> None:
        next(looks, lambda: None)()
        account.wait(job)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(monitor.time, "sleep", pause)
        arn = account.job(job)["jobArn"]
        assert monitor.main(["--job-id", arn, "--monitor", "--show-logs"]) == 0
    shown = capsys.readouterr().out
    assert "RUNNABLE" in shown and "FAILED" in shown
    assert "Exit code:    3" in shown and "exit_code" in shown
    assert "https://us-east-1.console.aws.amazon.com/cloudwatch/home" in shown


def test_arrays_children_and_data(
    account: BatchAccount, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of an array, or one of its children, nothing could be seen."""
    array = account.submit('exit "$AWS_BATCH_JOB_ARRAY_INDEX"', arrayProperties={"size": 3})
    account.wait(array)
    assert monitor.main(["--job-id", array, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["array"]["counts"]["FAILED"] == 2
    assert found["diagnosis"]["code"] == "array_child_failed"
    assert monitor.main(["--job-id", f"{array}:2", "--json"]) == 0
    child = json.loads(capsys.readouterr().out)
    assert (child["exit_code"], child["array"]["index"]) == (2, 2)


def test_what_cannot_be_looked_at_exits_with_1(
    account: BatchAccount, capsys: pytest.CaptureFixture[str]
) -> None:
    """A script would take an error for a job that was looked at."""
    job = account.submit("true")
    account.server.faults.add("DescribeJobs", Fault.THROTTLED)
    account.server.faults.add("DescribeJobs", Fault.LOST_ANSWER)
    assert monitor.main(["--job-id", job]) == 0
    assert monitor.main(["--job-id", "0" * 36]) == 1
    assert "knows no job" in capsys.readouterr().err
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("AWS_ENDPOINT_URL_BATCH", "no address")
        assert monitor.main(["--job-id", job]) == 1
    assert "no address" in capsys.readouterr().err


def test_motos_batch_is_watched_too(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The monitor would only understand the tests' own server."""
    for name, value in endpoint.env.items():
        monkeypatch.setenv(name, value)
    client = monitor.get_batch_client("us-east-1")
    job = _submitted(client, endpoint)
    assert monitor.monitor_job(client, job, poll_interval=0.01)["status"] == "SUCCEEDED"
    assert "SUCCEEDED" in capsys.readouterr().out
    for flags in ([], ["--monitor", "--poll-interval", "0.01"], ["--show-logs"], ["--json"]):
        assert monitor.main(["--job-id", job, "--aws-region", "us-east-1", *flags]) == 0
        assert "SUCCEEDED" in capsys.readouterr().out
    monkeypatch.setattr(monitor, "UNKNOWN_PAUSES", ())
    assert monitor.main(["--job-id", "0" * 36]) == 1


def _submitted(client: Any, endpoint: Endpoint) -> str:
    """A job of moto's Batch without Docker, which succeeds at once."""
    plain = json.dumps({"batch": {"use_docker": False}}).encode()
    request = urllib.request.Request(f"{endpoint.url}/moto-api/config", plain)
    request.add_header("Content-Type", "application/json")
    urllib.request.urlopen(request).close()
    iam = boto3.client("iam")
    role = iam.create_role(RoleName="batch-monitor", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    iam.close()
    client.create_compute_environment(
        computeEnvironmentName="monitored", type="UNMANAGED", serviceRole=role
    )
    order = [{"order": 1, "computeEnvironment": "monitored"}]
    client.create_job_queue(
        jobQueueName="monitored", state="ENABLED", priority=1, computeEnvironmentOrder=order
    )
    container = {"image": "busybox", "vcpus": 1, "memory": 64, "command": ["true"]}
    client.register_job_definition(
        jobDefinitionName="monitored", type="container", containerProperties=container
    )
    answer = client.submit_job(jobName="monitored", jobQueue="monitored", jobDefinition="monitored")
    found: str = answer["jobId"]
    return found
