"""What the tests' Batch server does as AWS Batch, beyond a job's life: looks, tags, shares, events,
and answers held against recorded ones of the real service."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from batch_account import WAIT, BatchAccount, container, requirements
from batch_server import (
    NOT_INSPECTED,
    TIMED_OUT,
    CloudWatchLogs,
    ContainerEnd,
    Delays,
    Flawed,
    KeptEvents,
    KeptLogs,
    Processes,
    Settings,
    SqsEvents,
    limits,
)
from botocore.exceptions import ClientError
from s3_endpoint import Endpoint

INSTANT = Delays(submitted=(0, 1), runnable=(0, 1), starting=(0, 1), ended=(0, 1))
STAYS = "while :; do sleep 0.01; done"


@pytest.fixture
def events() -> KeptEvents:
    return KeptEvents()


@pytest.fixture
def logs() -> KeptLogs:
    return KeptLogs()


@pytest.fixture
def flawed(logs: KeptLogs) -> Flawed:
    return Flawed(Processes(logs))


@pytest.fixture
def batch(flawed: Flawed, events: KeptEvents) -> Iterator[BatchAccount]:
    """Batch's second is 10 ms here."""
    made = BatchAccount(flawed, Settings(delays=INSTANT, rates={}), events=events)
    made.register()
    yield made
    made.close()


def refusal(call: Any, **request: Any) -> str:
    with pytest.raises(ClientError) as caught:
        call(**request)
    return str(caught.value)


# -- recorded answers ------------------------------------------------------------------------

JOB = {
    *("attempts", "container", "createdAt", "dependsOn", "jobDefinition", "jobId", "jobName"),
    *("jobQueue", "parameters", "retryStrategy", "startedAt", "status"),
}
CONTAINER = {
    *("command", "environment", "image", "mountPoints", "networkInterfaces", "ulimits", "volumes"),
}
PLACED = {"containerInstanceArn", "logStreamName", "taskArn"}
RECORDED: dict[str, tuple[set[str], set[str], set[str]]] = {
    "SUBMITTED": (JOB, CONTAINER, set()),
    "RUNNABLE": (JOB, CONTAINER, set()),
    "STARTING": (JOB, CONTAINER | PLACED, {"container"}),
    "RUNNING": (JOB, CONTAINER | PLACED, {"container", "startedAt"}),
    "FAILED": (
        JOB | {"statusReason", "stoppedAt"},
        CONTAINER | PLACED | {"exitCode"},
        {"container", "startedAt", "statusReason", "stoppedAt"},
    ),
}
"""State → members of the JobDetail, of its container, and of the JobSummary beside the four that
are always there: from aws-parallelcluster's recorded answers (2018)."""

LATER = {
    *("jobArn", "tags", "propagateTags", "platformCapabilities", "isCancelled", "isTerminated"),
}
"""Members of a JobDetail that came after those answers (botocore's model)."""
LATER_OF_CONTAINER = {"secrets", "resourceRequirements"}


def test_each_state_tells_what_was_recorded(flawed: Flawed) -> None:
    """A client would wait for what the service tells later, or trip over what it doesn't tell."""
    slow = Delays(submitted=(15, 15), runnable=(15, 15), starting=(15, 15), ended=(15, 15))
    batch = BatchAccount(flawed, Settings(delays=slow, rates={}))
    batch.register()
    job = batch.submit("sleep 0.2; exit 2")
    seen: set[str] = set()
    while seen != RECORDED.keys():
        told = batch.job(job)
        state = told["status"]
        listed = batch.client.list_jobs(jobQueue="queue", jobStatus=state)["jobSummaryList"]
        if batch.job(job)["status"] != state or state in seen:
            continue
        seen.add(state)
        members, inner, summary = RECORDED[state]
        assert told.keys() - LATER == members, state
        assert told["container"].keys() - LATER_OF_CONTAINER == inner, state
        always = {"jobId", "jobName", "createdAt", "status"}
        later = {"jobArn", "jobDefinition", "isCancelled", "isTerminated"}
        assert listed[0].keys() - later == always | summary, state
        assert isinstance(told["createdAt"], int) and told["dependsOn"] == []
        assert bool(told["startedAt"]) == (state in ("RUNNING", "FAILED"))
    batch.close()


def test_queue_and_environment_tell_what_was_recorded(batch: BatchAccount) -> None:
    """A client would find no state, or no reason, where the service tells them.

    Members: examples of the AWS CLI's reference.
    """
    (queue,) = batch.client.describe_job_queues()["jobQueues"]
    assert queue.keys() >= {
        *("computeEnvironmentOrder", "jobQueueArn", "jobQueueName", "priority", "state", "status"),
        "statusReason",
    }
    assert queue["statusReason"] == "JobQueue Healthy"
    assert queue["computeEnvironmentOrder"][0].keys() == {"computeEnvironment", "order"}
    (found,) = batch.client.describe_compute_environments()["computeEnvironments"]
    assert found.keys() >= {
        *("computeEnvironmentArn", "computeEnvironmentName", "computeResources", "ecsClusterArn"),
        *("serviceRole", "state", "status", "statusReason", "type"),
    }
    assert found["statusReason"] == "ComputeEnvironment Healthy"
    assert found["computeResources"].keys() >= {
        *("desiredvCpus", "instanceRole", "instanceTypes", "maxvCpus", "minvCpus", "subnets"),
        *("securityGroupIds", "type"),
    }


# -- looking ---------------------------------------------------------------------------------


def test_descriptions_come_in_pages(batch: BatchAccount) -> None:
    """A client that reads the first page only would pass the tests."""
    for number in range(4):
        environment = batch.server.add_environment(f"e{number}")
        batch.server.add_queue(f"q{number}", environment)
        batch.register(f"d{number}")
    for operation, member in (
        ("describe_job_queues", "jobQueues"),
        ("describe_compute_environments", "computeEnvironments"),
        ("describe_job_definitions", "jobDefinitions"),
    ):
        pages = batch.client.get_paginator(operation).paginate(PaginationConfig={"PageSize": 2})
        assert [len(page[member]) for page in pages] == [2, 2, 1]


def test_filters_of_a_listing(batch: BatchAccount) -> None:
    """A search by definition, time or share would find what AWS doesn't."""
    batch.register("other")
    batch.server.add_queue("fair", batch.environment, fair_share=True)
    first = batch.wait(batch.start("definition"))
    while time.time_ns() // 1_000_000 <= first["createdAt"]:
        pass
    second = batch.wait(batch.start("other"))

    def found(name: str, value: str, queue: str = "queue", **more: str) -> list[str]:
        wanted = [{"name": name, "values": [value]}]
        listed = batch.client.list_jobs(jobQueue=queue, filters=wanted, **more)
        return [each["jobId"] for each in listed["jobSummaryList"]]

    assert found("JOB_DEFINITION", "OTHER") == [second["jobId"]]
    assert found("JOB_DEFINITION", first["jobDefinition"]) == [first["jobId"]]
    # jobStatus counts for nothing beside it.
    after = str(first["createdAt"])
    assert found("AFTER_CREATED_AT", after, jobStatus="RUNNING") == [second["jobId"]]
    assert found("BEFORE_CREATED_AT", str(second["createdAt"])) == [first["jobId"]]
    shared = batch.client.submit_job(
        jobName="s", jobQueue="fair", jobDefinition="definition", shareIdentifier="me"
    )["jobId"]
    assert found("SHARE_IDENTIFIER", "me", "fair") == [shared]
    assert found("SHARE_IDENTIFIER", "you", "fair") == []
    array = batch.submit("true", jobName="array", arrayProperties={"size": 2})
    batch.wait(array)
    named = [{"name": "JOB_NAME", "values": ["other*"]}]
    listed = batch.client.list_jobs(arrayJobId=array, jobStatus="SUCCEEDED", filters=named)
    assert len(listed["jobSummaryList"]) == 2, "a filter applies to no children"


def test_tags_are_kept_and_told(batch: BatchAccount) -> None:
    """Costs could not be told apart by tags, and no test would notice."""
    answer = batch.client.submit_job(
        jobName="t", jobQueue="queue", jobDefinition="definition", tags={"run": "1"}
    )
    arn = answer["jobArn"]
    batch.client.tag_resource(resourceArn=arn, tags={"team": "a"})
    assert batch.job(answer["jobId"])["tags"] == {"run": "1", "team": "a"}
    batch.client.untag_resource(resourceArn=arn, tagKeys=["run"])
    assert batch.client.list_tags_for_resource(resourceArn=arn)["tags"] == {"team": "a"}
    many = {f"t{number}": "" for number in range(50)}
    assert "50 tags" in refusal(batch.client.tag_resource, resourceArn=arn, tags=many)


def test_reasons_are_required_and_bounded(batch: BatchAccount) -> None:
    """A reason that AWS refuses would end jobs here only."""
    job = batch.start("definition")
    for call in (batch.client.cancel_job, batch.client.terminate_job):
        assert "empty" in refusal(call, jobId=job, reason="")
        assert "1024" in refusal(call, jobId=job, reason="x" * 1025)


# -- running ---------------------------------------------------------------------------------


def test_overrides_reach_the_container_that_they_name(batch: BatchAccount) -> None:
    """An override of a task of several would be for another of them."""
    small = {"image": "i", "command": ["true"], "resourceRequirements": requirements(1, 64)}
    batch.client.register_job_definition(
        jobDefinitionName="several",
        type="container",
        ecsProperties={
            "taskProperties": [
                {
                    "containers": [
                        {**small, "name": "a", "essential": False},
                        {**small, "name": "b"},
                    ]
                },
            ]
        },
    )
    over = {
        "name": "b",
        "command": ["sh", "-c", 'exit "$CODE"'],
        "environment": [{"name": "CODE", "value": "5"}],
        "resourceRequirements": requirements(2, 128),
    }
    job = batch.start("several", ecsPropertiesOverride={"taskProperties": [{"containers": [over]}]})
    ended = batch.wait(job)
    (task,) = ended["ecsProperties"]["taskProperties"]
    told = {each["name"]: each for each in task["containers"]}
    assert (ended["status"], told["b"]["exitCode"]) == ("FAILED", 5)
    assert told["a"]["command"] == ["true"] and told["a"]["environment"] == []
    assert {each["value"] for each in told["b"]["resourceRequirements"]} == {"2", "128"}


def test_children_of_an_array_are_tried_again_each(batch: BatchAccount) -> None:
    """A child's failure would use up the attempts of the others."""
    script = '[ "$AWS_BATCH_JOB_ATTEMPT$AWS_BATCH_JOB_ARRAY_INDEX" != 11 ]'
    array = batch.submit(script, arrayProperties={"size": 3}, retryStrategy={"attempts": 2})
    assert batch.wait(array)["status"] == "SUCCEEDED"
    assert [len(batch.job(f"{array}:{index}")["attempts"]) for index in range(3)] == [1, 2, 1]


def test_ended_jobs_are_never_tried_again(batch: BatchAccount) -> None:
    """A terminated job would come back with its next attempt."""
    job = batch.submit("while :; do sleep 0.01; done", retryStrategy={"attempts": 3})
    batch.wait(job, "RUNNING")
    batch.client.terminate_job(jobId=job, reason="enough")
    ended = batch.wait(job)
    assert (ended["status"], len(ended["attempts"])) == ("FAILED", 1)


def test_spot_interruption_gives_time_and_is_named(batch: BatchAccount, logs: KeptLogs) -> None:
    """An interrupted job could not be told from one that failed; or one that ended well from one
    that didn't."""
    jobs = [batch.submit(f"trap 'exit {code}' TERM; echo up; {STAYS}") for code in (0, 3)]
    for job in jobs:
        stream = batch.wait(job, "RUNNING")["container"]["logStreamName"]
        deadline = time.monotonic() + WAIT
        while not logs.lines[stream]:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        batch.server.interrupt(job)
    ends = [batch.wait(job) for job in jobs]
    assert [each["status"] for each in ends] == ["SUCCEEDED", "FAILED"]
    assert {each["statusReason"] for each in ends} == {"Your Spot Task was interrupted."}


def test_agent_that_fails_is_told_in_its_words(batch: BatchAccount, flawed: Flawed) -> None:
    """A host's trouble could not be told from a job's, nor work that was done all the same."""
    flawed.starts.append(TIMED_OUT)
    slow = batch.wait(batch.start("definition"))
    assert slow["statusReason"] == "Task failed to start"
    assert slow["container"]["reason"] == TIMED_OUT and "startedAt" not in slow["attempts"][0]
    # It names a stream that never was.
    assert "logStreamName" in slow["container"]
    flawed.ends.append(ContainerEnd(None, NOT_INSPECTED))
    lost = batch.wait(batch.start("definition"))
    assert (lost["status"], lost["container"]["reason"]) == ("FAILED", NOT_INSPECTED)
    assert "exitCode" not in lost["container"]


def test_only_the_head_of_a_queue_has_a_reason(batch: BatchAccount) -> None:
    """A client would find reasons where AWS gives none, or wait for one that never comes."""
    batch.environment.obstacle = "MISCONFIGURATION:SERVICE_ROLE_PERMISSIONS"
    head = batch.wait(batch.start("definition"), lambda job: "statusReason" in job)
    second = batch.start("definition")
    assert head["statusReason"] == "MISCONFIGURATION:SERVICE_ROLE_PERMISSIONS"
    assert "statusReason" not in batch.wait(second, "RUNNABLE")
    silent = batch.server.add_environment("silent", obstacle="")
    batch.server.add_queue("quiet", silent)
    quiet = batch.submit("true", jobQueue="quiet")
    batch.wait(quiet, "RUNNABLE")
    assert len(batch.client.get_job_queue_snapshot(jobQueue="quiet")["frontOfQueue"]["jobs"]) == 1
    assert "statusReason" not in batch.job(quiet)


# -- fair share ------------------------------------------------------------------------------


def test_shares_take_turns_by_what_they_use(batch: BatchAccount) -> None:
    """On a fair-share queue who submits most would get all."""
    batch.environment.max_vcpus = 2
    batch.environment.places = False
    batch.server.add_queue("fair", batch.environment, fair_share=True, shares={"b": 0.5})
    request = {"jobQueue": "fair", "jobDefinition": "definition"}
    over = {"command": ["sh", "-c", STAYS]}
    jobs = {
        name: batch.client.submit_job(
            jobName=name, shareIdentifier=name[0], containerOverrides=over, **request
        )["jobId"]
        for name in ("a1", "a2", "b1")
    }
    for job in jobs.values():
        batch.wait(job, "RUNNABLE")
    deadline = time.monotonic() + WAIT
    while sum(len(heap) for heap in batch.server.queue("fair").waiting.values()) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    batch.server.set_placing(batch.environment, True)
    for name in ("a1", "b1"):
        batch.wait(jobs[name], "RUNNING")
    assert batch.job(jobs["a2"])["status"] == "RUNNABLE"
    (policy,) = batch.client.list_scheduling_policies()["schedulingPolicies"]
    (told,) = batch.client.describe_scheduling_policies(arns=[policy["arn"]])["schedulingPolicies"]
    shares = told["fairsharePolicy"]["shareDistribution"]
    assert shares == [{"shareIdentifier": "b", "weightFactor": 0.5}]


def test_shares_are_bounded(batch: BatchAccount, monkeypatch: pytest.MonkeyPatch) -> None:
    """A share for each run would be refused at AWS only, after 500 runs."""
    monkeypatch.setattr(limits, "SHARES", 2)
    batch.server.add_queue("fair", batch.environment, fair_share=True)
    request = {"jobName": "a", "jobQueue": "fair", "jobDefinition": "definition"}
    for share in ("a", "b", "a"):
        batch.client.submit_job(**request, shareIdentifier=share)
    told = refusal(batch.client.submit_job, **request, shareIdentifier="c")
    assert "More than 2 share identifiers" in told


# -- what else is told -----------------------------------------------------------------------


def test_submissions_have_their_rate(flawed: Flawed) -> None:
    """A driver that submits faster than 50 a second would not be throttled here."""
    batch = BatchAccount(flawed, Settings(delays=INSTANT))
    batch.register(command=["true"])
    batch.server.set_placing(batch.environment, False)
    codes = set()
    for _ in range(200):
        try:
            batch.start("definition")
        except ClientError as error:
            codes.add(error.response["Error"]["Code"])
            break
    assert codes == {"TooManyRequestsException"}
    batch.close()


def test_events_tell_each_state(batch: BatchAccount, events: KeptEvents) -> None:
    """Who listens instead of looking would miss a state, or hear of the submission."""
    job = batch.submit("exit 3")
    batch.wait(job)
    deadline = time.monotonic() + WAIT
    while len(events.events) < 4:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    told = [event["detail"]["status"] for event in events.events]
    assert told == ["RUNNABLE", "STARTING", "RUNNING", "FAILED"]
    last = events.events[-1]
    assert last["detail-type"] == "Batch Job State Change" and last["source"] == "aws.batch"
    assert last["resources"] == [last["detail"]["jobArn"]]
    assert last["detail"]["container"]["exitCode"] == 3


def test_a_rule_brings_events_into_a_queue(endpoint: Endpoint) -> None:
    """EventBridge could not be had as a source of states."""
    sqs: Any = boto3.client(
        "sqs",
        endpoint_url=endpoint.url,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    url = sqs.create_queue(QueueName="batch-events")["QueueUrl"]
    events = SqsEvents(endpoint.url, "us-east-1", url)
    batch = BatchAccount(Processes(KeptLogs()), Settings(delays=INSTANT, rates={}), events=events)
    batch.register()
    job = batch.wait(batch.start("definition"))["jobId"]
    batch.close()
    events.close()
    told = []
    while found := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
        told += [json.loads(each["Body"])["detail"] for each in found]
        for each in found:
            sqs.delete_message(QueueUrl=url, ReceiptHandle=each["ReceiptHandle"])
    assert {each["jobId"] for each in told} == {job} and told[-1]["status"] == "SUCCEEDED"
    sqs.close()


def test_lines_of_plain_processes_go_to_cloudwatch(endpoint: Endpoint) -> None:
    """`logs` could be tried with Docker only."""
    services = CloudWatchLogs(endpoint.url, "us-east-1")
    batch = BatchAccount(Processes(services), Settings(delays=INSTANT, rates={}))
    group = {"awslogs-group": "/tools", "awslogs-stream-prefix": "mine"}
    batch.register(logConfiguration={"logDriver": "awslogs", "options": group})
    stream = batch.wait(batch.submit("echo one; echo; echo two >&2; exit 1"))["container"][
        "logStreamName"
    ]
    batch.close()
    logs: Any = boto3.client(
        "logs",
        endpoint_url=endpoint.url,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    found = logs.get_log_events(logGroupName="/tools", logStreamName=stream, startFromHead=True)
    assert [event["message"] for event in found["events"]] == ["one", "two"]
    logs.close()


@pytest.mark.parametrize(
    ("vcpus", "memory", "fits"),
    [
        *((0.25, 512, True), (0.25, 4096, False), (0.5, 1024, True), (0.5, 1536, False)),
        *((1, 2048, True), (2, 2048, False), (4, 30_720, True), (8, 20_480, True)),
        *((8, 18_432, False), (16, 122_880, True), (16, 36_864, False), (3, 8192, False)),
        *((32, 249_856, True), (32, 65_536, False)),
    ],
)
def test_pairs_of_fargate(batch: BatchAccount, vcpus: float, memory: int, fits: bool) -> None:
    """A pair that Fargate hasn't would be accepted, or one that it has be refused."""
    request = {
        "jobDefinitionName": "pair",
        "type": "container",
        "platformCapabilities": ["FARGATE"],
        "containerProperties": container(
            executionRoleArn="arn:aws:iam::1:role/x",
            resourceRequirements=requirements(vcpus, memory),
        ),
    }
    if fits:
        batch.client.register_job_definition(**request)
    else:
        assert "no pair" in refusal(batch.client.register_job_definition, **request)


AT_ITS_ADDRESS = """
import sys
sys.path[:0] = [{tests!r}]
from batch_account import BatchAccount
from batch_server import Delays, KeptLogs, Processes, Settings
from batch_server.task_endpoint import REAL
logs = KeptLogs()
batch = BatchAccount(Processes(logs), Settings(agent_address=REAL, rates={{}}))
asks = (
    "import botocore.session;"
    "found = botocore.session.get_session().get_credentials();"
    "print(found.method, found.access_key)"
)
batch.register("d", command=["python3", "-c", asks], jobRoleArn="arn:aws:iam::1:role/r")
job = batch.wait(batch.start("d"))
print(logs.lines[job["container"]["logStreamName"]])
batch.close()
"""


def test_agent_is_asked_at_its_own_address() -> None:
    """A relative URI, which is what the agent tells, could not be tried."""
    tests = str(Path(__file__).parents[1])
    program = [sys.executable, "-c", AT_ITS_ADDRESS.format(tests=tests)]
    network = 'ip link set lo up && ip addr add 169.254.170.2/32 dev lo && exec "$@"'
    done = subprocess.run(
        ["unshare", "-n", "sh", "-c", network, "sh", *program],
        capture_output=True,
        text=True,
        timeout=120,
    )
    if "Operation not permitted" in done.stderr:
        pytest.skip("a network of its own needs root")
    assert "container-role ASIATEST" in done.stdout, done.stderr
