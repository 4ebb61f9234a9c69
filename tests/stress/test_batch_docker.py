"""The Batch server of the tests on a real Docker: what ends a container, and what is told of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from batch_account import WAIT, BatchAccount, container, requirements
from batch_server import GROUP, Delays, Settings
from batch_server.docker_containers import Docker
from batch_server.dockerd import IMAGE, DockerDaemon
from s3_endpoint import Endpoint

SHORT = Delays(submitted=(0, 5), runnable=(0, 20), starting=(0, 10), ended=(0, 5))


@pytest.fixture
def batch(daemon: DockerDaemon, endpoint: Endpoint) -> Iterator[BatchAccount]:
    """Batch's second is 20 ms here."""
    settings = Settings(second_s=0.02, delays=SHORT)
    made = BatchAccount(Docker(daemon.client, endpoint.url, settings.region), settings)
    made.register(image=IMAGE)
    yield made
    made.close()


def lines(endpoint: Endpoint, stream: str, count: int) -> list[str]:
    """A stream's messages, once there are as many: the driver sends them seconds later."""
    logs: Any = boto3.client(
        "logs",
        endpoint_url=endpoint.url,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    deadline = time.monotonic() + WAIT
    while True:
        found = logs.get_log_events(logGroupName=GROUP, logStreamName=stream, startFromHead=True)
        if len(found["events"]) >= count or time.monotonic() > deadline:
            logs.close()
            return [event["message"] for event in found["events"]]
        time.sleep(0.05)


def test_job_runs_in_its_image(batch: BatchAccount, endpoint: Endpoint) -> None:
    """A job's end, variables or log lines would not come out of the container."""
    job = batch.wait(batch.submit('echo "$AWS_BATCH_JOB_ATTEMPT"; echo; echo two >&2; exit 7'))
    assert (job["status"], job["container"]["exitCode"]) == ("FAILED", 7)
    assert job["statusReason"] == "Essential container in task exited"
    assert sorted(lines(endpoint, job["container"]["logStreamName"], 2)) == ["1", "two"]


def test_memory_limit_kills(batch: BatchAccount) -> None:
    """A job out of memory could not be told from one that was killed."""
    # tail keeps what it reads until a line ends, which no zero does. Docker may hear of the want of
    # memory after the end of what ends at once, and not tell: so it lives on for a moment.
    job = batch.wait(
        batch.submit("head -c 200000000 /dev/zero | tail; code=$?; sleep 1; exit $code")
    )
    assert job["status"] == "FAILED"
    assert job["container"]["reason"] == "OutOfMemoryError: Container killed due to memory usage"


def test_child_killed_for_memory_is_told_of_a_job_that_went_well(batch: BatchAccount) -> None:
    """Such a job would be taken for a failed one, or its loss go unseen."""
    job = batch.wait(batch.submit("head -c 200000000 /dev/zero | tail >/dev/null; sleep 1; exit 0"))
    assert (job["status"], job["container"]["exitCode"]) == ("SUCCEEDED", 0)
    assert job["container"]["reason"] == "OutOfMemoryError: Container killed due to memory usage"


ASKS = """
for path in "$AWS_CONTAINER_CREDENTIALS_FULL_URI" "$ECS_CONTAINER_METADATA_URI_V4/task"; do
    place=${path#http://}
    exec 3<>"/dev/tcp/$(echo "${place%%/*}" | tr : /)"
    echo "GET /${place#*/} HTTP/1.0" >&3
    echo >&3
    cat <&3
    echo
done
"""
"""The image has no HTTP client but bash."""


def test_container_asks_for_keys_and_metadata(batch: BatchAccount, endpoint: Endpoint) -> None:
    """What fetches its files with the job role's keys could not be tried in a container."""
    role = "arn:aws:iam::123456789012:role/job"
    batch.register("asks", image=IMAGE, command=["bash", "-c", ASKS], jobRoleArn=role)
    job = batch.wait(batch.start("asks"))
    assert job["status"] == "SUCCEEDED", job
    told = "\n".join(lines(endpoint, job["container"]["logStreamName"], 8))
    assert f'"RoleArn": "{role}"' in told and '"AccessKeyId"' in told
    assert f'"TaskARN": "{job["container"]["taskArn"]}"' in told
    assert '"KnownStatus": "RUNNING"' in told


def test_first_process_without_a_handler_ignores_term(batch: BatchAccount) -> None:
    """A timeout's TERM would end what in a container only KILL ends."""
    job = batch.wait(
        batch.submit(["sleep", "600"], timeout={"attemptDurationSeconds": 60}),
    )
    assert job["statusReason"] == "Job attempt duration exceeded timeout"
    assert job["container"]["exitCode"] == 137
    # 60 and 30 of Batch's seconds of 20 ms each.
    assert job["stoppedAt"] - job["startedAt"] >= 1800


def test_handler_hears_term(batch: BatchAccount, endpoint: Endpoint) -> None:
    """A job that saves its work at TERM would be killed at once."""
    job = batch.submit("trap 'echo saved; exit 5' TERM; echo up; while :; do sleep 0.1; done")
    stream = batch.wait(job, "RUNNING")["container"]["logStreamName"]
    assert lines(endpoint, stream, 1) == ["up"]
    batch.client.terminate_job(jobId=job, reason="enough")
    ended = batch.wait(job)
    assert (ended["status"], ended["statusReason"]) == ("FAILED", "enough")
    assert ended["container"]["exitCode"] == 5
    assert lines(endpoint, stream, 2) == ["up", "saved"]


def test_missing_image_and_command_are_told(batch: BatchAccount) -> None:
    """The daemon's own words would be lost."""
    batch.register("absent", image="127.0.0.1:1/nobody/nothing")
    absent = batch.wait(batch.submit("true", jobDefinition="absent"))
    assert absent["statusReason"] == "Task failed to start"
    assert absent["container"]["reason"].startswith("CannotPullContainerError: Error response")
    assert "logStreamName" not in absent["container"]
    wrong = batch.wait(batch.submit(["no-such-command"]))
    assert wrong["container"]["reason"].startswith("CannotStartContainerError")
    assert "no-such-command" in wrong["container"]["reason"]


def test_host_that_dies_kills_the_container(batch: BatchAccount, daemon: DockerDaemon) -> None:
    """A lost host's container would run on beside the next attempt's."""
    job = batch.submit(["sleep", "600"])
    batch.wait(job, "RUNNING")
    instance = batch.server.lose_host_of(job)
    assert batch.wait(job)["statusReason"] == f"Host EC2 (instance {instance}) terminated."
    deadline = time.monotonic() + WAIT
    while daemon.client.containers.list():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_array_runs_side_by_side(batch: BatchAccount) -> None:
    """Containers of an array would wait for one another, or get one another's index."""
    array = batch.submit('exit "$AWS_BATCH_JOB_ARRAY_INDEX"', arrayProperties={"size": 5})
    assert batch.wait(array)["arrayProperties"]["statusSummary"]["FAILED"] == 4
    codes = [batch.job(f"{array}:{index}")["container"]["exitCode"] for index in range(5)]
    assert codes == [0, 1, 2, 3, 4]


def test_containers_of_a_task_share_a_volume(batch: BatchAccount) -> None:
    """Staging beside the user's image, in containers of their own, could not be tried."""
    shared = {
        "image": IMAGE,
        "resourceRequirements": requirements(1, 64),
        "mountPoints": [{"sourceVolume": "work", "containerPath": "/work"}],
    }
    containers = [
        {
            **shared,
            "name": "stage",
            "essential": False,
            "command": ["sh", "-c", "echo staged >/work/input"],
        },
        {
            **shared,
            "name": "main",
            "essential": False,
            "command": ["sh", "-c", "cat /work/input >/work/output; exit 9"],
            "dependsOn": [{"containerName": "stage", "condition": "SUCCESS"}],
        },
        {
            **shared,
            "name": "agent",
            "command": ["sh", "-c", '[ "$(cat /work/output)" = staged ] && exit 9'],
            "dependsOn": [{"containerName": "main", "condition": "COMPLETE"}],
        },
    ]
    batch.client.register_job_definition(
        jobDefinitionName="staged",
        type="container",
        ecsProperties={
            "taskProperties": [{"containers": containers, "volumes": [{"name": "work"}]}]
        },
    )
    answer = batch.client.submit_job(jobName="x", jobQueue="queue", jobDefinition="staged")
    job = batch.wait(answer["jobId"])
    (task,) = job["ecsProperties"]["taskProperties"]
    codes = {each["name"]: each["exitCode"] for each in task["containers"]}
    assert codes == {"stage": 0, "main": 9, "agent": 9}
    assert job["status"] == "FAILED"


def test_shared_file_system_outlives_the_task(batch: BatchAccount) -> None:
    """Jobs that hand files on by EFS could not be tried."""
    volume = {"name": "efs", "efsVolumeConfiguration": {"fileSystemId": "fs-1"}}
    mount = {"sourceVolume": "efs", "containerPath": "/data"}
    batch.client.register_job_definition(
        jobDefinitionName="sharing",
        type="container",
        containerProperties=container(IMAGE, volumes=[volume], mountPoints=[mount]),
    )
    wrote = batch.submit("echo here >/data/file", jobDefinition="sharing")
    read = batch.submit(
        '[ "$(cat /data/file)" = here ]', jobDefinition="sharing", dependsOn=[{"jobId": wrote}]
    )
    assert batch.wait(read)["status"] == "SUCCEEDED"
