"""The Batch server of the tests, without Docker: what it must do as AWS Batch does it.

What is tested later against it is only as good as this.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from typing import Any

import pytest
from batch_account import ENDED, WAIT, BatchAccount, container, requirements
from batch_server import Delays, Fault, KeptLogs, Processes, Settings
from botocore.exceptions import ClientError, HTTPClientError

INSTANT = Delays(submitted=(0, 1), runnable=(0, 2), starting=(0, 1), ended=(0, 1))
STATES = ("SUBMITTED", "PENDING", "RUNNABLE", "STARTING", "RUNNING", "SUCCEEDED", "FAILED")


@pytest.fixture
def logs() -> KeptLogs:
    return KeptLogs()


@pytest.fixture
def processes(logs: KeptLogs) -> Processes:
    return Processes(logs)


@pytest.fixture
def batch(processes: Processes) -> Iterator[BatchAccount]:
    """Batch's second is 10 ms here."""
    made = BatchAccount(processes, Settings(delays=INSTANT, rates={}))
    made.register()
    yield made
    made.close()


def refusal(call: Any, **request: Any) -> str:
    """The text of the ClientException with which a call is refused."""
    with pytest.raises(ClientError) as caught:
        call(**request)
    assert caught.value.response["Error"]["Code"] == "ClientException"
    return str(caught.value)


def test_job_ends_as_its_command_does(batch: BatchAccount, logs: KeptLogs) -> None:
    """A job's states, exit code, reason, times or log stream would be other than Batch's."""
    good, bad = batch.submit("echo one; echo; echo two >&2"), batch.submit("exit 3")
    done, failed = batch.wait(good), batch.wait(bad)
    assert (done["status"], done["container"]["exitCode"]) == ("SUCCEEDED", 0)
    assert (failed["status"], failed["container"]["exitCode"]) == ("FAILED", 3)
    assert done["statusReason"] == failed["statusReason"] == "Essential container in task exited"
    assert done["createdAt"] <= done["startedAt"] <= done["stoppedAt"]
    stream = done["container"]["logStreamName"]
    assert stream.startswith("definition/default/")
    assert logs.lines[stream] == [b"one", b"two"]


def test_members_are_those_of_recorded_answers(batch: BatchAccount) -> None:
    """A client would be tested against answers that the real service doesn't give.

    The names are those of aws-parallelcluster's recorded answers (2018): each must be there.
    """
    job = {
        "status", "container", "parameters", "jobDefinition", "statusReason", "jobId", "attempts",
        "retryStrategy", "jobQueue", "dependsOn", "startedAt", "jobName", "createdAt", "stoppedAt",
    }  # fmt: skip
    inner = {
        "mountPoints", "taskArn", "logStreamName", "image", "containerInstanceArn", "environment",
        "volumes", "command", "networkInterfaces", "ulimits", "exitCode",
    }  # fmt: skip
    attempt = {"startedAt", "container", "stoppedAt", "statusReason"}
    ran = {"taskArn", "networkInterfaces", "containerInstanceArn", "logStreamName", "exitCode"}
    single = batch.wait(batch.submit("exit 2"))
    assert job <= single.keys() and inner <= single["container"].keys()
    assert single["attempts"][0].keys() == attempt
    assert single["attempts"][0]["container"].keys() == ran

    array = batch.submit("exit 2", arrayProperties={"size": 2})
    parent, child = batch.wait(array), batch.job(f"{array}:0")
    assert job - {"stoppedAt"} <= parent.keys() and "stoppedAt" not in parent
    assert not {"taskArn", "logStreamName", "exitCode"} & parent["container"].keys()
    assert (parent["attempts"], parent["startedAt"]) == ([], 0)
    assert parent["arrayProperties"] == {
        "size": 2,
        "statusSummary": {**dict.fromkeys(STATES, 0), "FAILED": 2},
    }
    assert parent["statusReason"] == "Array Child Job failed"
    assert child["arrayProperties"] == {"index": 0, "statusSummary": {}}

    listed = batch.client.list_jobs(jobQueue="queue", jobStatus="FAILED")["jobSummaryList"]
    by_id = {each["jobId"]: each for each in listed}
    assert by_id.keys() == {single["jobId"], array}
    assert by_id[single["jobId"]]["container"] == {"exitCode": 2}
    assert by_id[array]["arrayProperties"] == {"size": 2} and "container" not in by_id[array]


def test_every_state_is_passed_in_order(processes: Processes) -> None:
    """A client would never see a state that takes long at AWS."""
    slow = Delays(submitted=(10, 10), runnable=(10, 10), starting=(10, 10), ended=(1, 1))
    batch = BatchAccount(processes, Settings(delays=slow))
    batch.register()
    job = batch.submit("sleep 0.1")
    seen = [batch.job(job)["status"]]
    while seen[-1] not in ENDED:
        if (now := batch.job(job)["status"]) != seen[-1]:
            seen.append(now)
    assert seen == ["SUBMITTED", "RUNNABLE", "STARTING", "RUNNING", "SUCCEEDED"]
    batch.close()


def test_container_is_told_what_it_is(batch: BatchAccount, logs: KeptLogs) -> None:
    """A wrapper could not tell its job, its attempt or its index."""
    batch.register(
        "told",
        command=["sh", "-c", "env"],
        environment=[{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
    )
    answer = batch.client.submit_job(
        jobName="told",
        jobQueue="queue",
        jobDefinition="told",
        containerOverrides={"environment": [{"name": "B", "value": "3"}]},
        arrayProperties={"size": 2},
    )
    batch.wait(answer["jobId"])
    child = batch.job(f"{answer['jobId']}:1")
    lines = logs.lines[child["container"]["logStreamName"]]
    told = dict(line.decode().split("=", 1) for line in lines)
    assert (told["A"], told["B"]) == ("1", "3")
    assert told["AWS_BATCH_JOB_ID"] == child["jobId"]
    assert told["AWS_BATCH_JOB_ATTEMPT"] == "1"
    assert told["AWS_BATCH_JOB_ARRAY_INDEX"] == "1"
    assert (told["AWS_BATCH_JQ_NAME"], told["AWS_BATCH_CE_NAME"]) == ("queue", "here")


def test_parameters_take_the_place_of_their_names(batch: BatchAccount, logs: KeptLogs) -> None:
    """``Ref::`` in a command would reach the job as it is written."""
    batch.client.register_job_definition(
        jobDefinitionName="greets",
        type="container",
        parameters={"whom": "all", "how": "hello"},
        containerProperties=container(command=["echo", "Ref::how", "Ref::whom"]),
    )
    answer = batch.client.submit_job(
        jobName="x", jobQueue="queue", jobDefinition="greets", parameters={"whom": "you"}
    )
    stream = batch.wait(answer["jobId"])["container"]["logStreamName"]
    assert logs.lines[stream] == [b"hello you"]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"jobName": "a b"}, "valid pattern"),
        ({"jobName": "-a"}, "valid pattern"),
        ({"jobName": "a" * 129}, "valid pattern"),
        ({"jobQueue": "nowhere"}, "not found"),
        ({"jobDefinition": "nothing"}, "does not exist"),
        ({"jobDefinition": "definition:7"}, "does not exist"),
        ({"shareIdentifier": "a"}, "fair share"),
        ({"arrayProperties": {"size": 1}}, "Array size"),
        ({"arrayProperties": {"size": 10_001}}, "Array size"),
        ({"dependsOn": [{"jobId": "x"}] * 21}, "20 dependencies"),
        ({"dependsOn": [{"jobId": "x"}]}, "does not exist"),
        ({"dependsOn": [{"type": "SEQUENTIAL"}]}, "without an array"),
        ({"retryStrategy": {"attempts": 11}}, "from 1 to 10"),
        ({"retryStrategy": {"evaluateOnExit": [{"action": "EXIT"}]}}, "requires attempts"),
        (
            {"retryStrategy": {"attempts": 2, "evaluateOnExit": [{"action": "EXIT"}] * 6}},
            "More than 5",
        ),
        (
            {
                "retryStrategy": {
                    "attempts": 2,
                    "evaluateOnExit": [{"action": "EXIT", "onReason": "*Error"}],
                }
            },
            "no valid pattern",
        ),
        ({"timeout": {"attemptDurationSeconds": 59}}, "at least 60"),
        ({"containerOverrides": {"command": [""]}}, "empty strings"),
        (
            {"containerOverrides": {"environment": [{"name": "AWS_BATCH_X", "value": "1"}]}},
            "AWS_BATCH",
        ),
        ({"tags": {f"t{n}": "" for n in range(51)}}, "at most 50"),
        ({"schedulingPriorityOverride": 10_000}, "from 0 to 9999"),
        ({"parameters": {"a": "x" * 31_000}}, "larger than"),
    ],
)
def test_submission_beyond_a_limit_is_refused(
    batch: BatchAccount, change: dict[str, Any], text: str
) -> None:
    """A client could send what AWS refuses, and no test would notice."""
    request = {"jobName": "a", "jobQueue": "queue", "jobDefinition": "definition", **change}
    assert text in refusal(batch.client.submit_job, **request)
    assert batch.server.jobs() == []


FARGATE = {
    "platformCapabilities": ["FARGATE"],
    "containerProperties": container(
        executionRoleArn="arn:aws:iam::1:role/x", resourceRequirements=requirements(0.25, 512)
    ),
}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"jobDefinitionName": "a.b"}, "valid pattern"),
        ({"type": "multinode"}, "container jobs"),
        ({"containerProperties": {"image": "x"}}, "VCPU"),
        (
            {"containerProperties": container(resourceRequirements=requirements(0.5, 64))},
            "Please provide a numeric value",
        ),
        (
            {"containerProperties": container(resourceRequirements=requirements(1, 3))},
            "at least 4 MiB",
        ),
        ({"containerProperties": container(command=[""])}, "empty strings"),
        ({"parameters": {"a": "x" * 25_000}}, "larger than"),
        ({"timeout": {"attemptDurationSeconds": 1}}, "at least 60"),
        ({**FARGATE, "containerProperties": container()}, "executionRoleArn"),
        (
            {
                **FARGATE,
                "containerProperties": {
                    **FARGATE["containerProperties"],  # type: ignore[dict-item]
                    "resourceRequirements": requirements(0.25, 4096),
                },
            },
            "no pair",
        ),
        (
            {
                **FARGATE,
                "containerProperties": {**FARGATE["containerProperties"], "privileged": True},  # type: ignore[dict-item]
            },
            "privileged",
        ),
    ],
)
def test_definition_beyond_a_limit_is_refused(
    batch: BatchAccount, change: dict[str, Any], text: str
) -> None:
    """A client could register what AWS refuses, and no test would notice."""
    request = {
        "jobDefinitionName": "new",
        "type": "container",
        "containerProperties": container(),
        **change,
    }
    assert text in refusal(batch.client.register_job_definition, **request)


def test_requests_are_held_against_the_model(batch: BatchAccount) -> None:
    """A request with a wrong enum or an unknown member would be taken."""
    batch.client.meta.config.parameter_validation = False
    bad = {"jobName": "a", "jobQueue": "queue", "jobDefinition": "definition"}
    depends = [{"jobId": "x", "type": "N_TO_M"}]
    assert "is none of" in refusal(batch.client.submit_job, **bad, dependsOn=depends)
    assert batch.server.seen[-1].error == "ClientException"


def test_overlong_overrides_fail_the_accepted_job(batch: BatchAccount) -> None:
    """What AWS accepts and then fails would run in the tests."""
    large = [{"name": "A", "value": "x" * 8192}]
    job = batch.wait(batch.submit("true", containerOverrides={"environment": large}))
    assert (job["status"], job["attempts"]) == ("FAILED", [])
    assert job["statusReason"] == "Container Overrides length must be at most 8192"


def test_revisions_count_up_and_the_newest_is_taken(batch: BatchAccount) -> None:
    """A client would be told the wrong revision, or run an old one."""
    assert batch.register("twice") == "twice:1"
    assert batch.register("twice", command=["false"]) == "twice:2"
    batch.client.deregister_job_definition(jobDefinition="twice:1")
    answer = batch.client.submit_job(jobName="x", jobQueue="queue", jobDefinition="twice")
    assert batch.wait(answer["jobId"])["jobDefinition"].endswith("job-definition/twice:2")
    found = batch.client.describe_job_definitions(jobDefinitionName="twice", status="ACTIVE")
    assert [each["revision"] for each in found["jobDefinitions"]] == [2]


def test_attempts_follow_the_rules(batch: BatchAccount) -> None:
    """Retries would be other than evaluateOnExit says."""
    rules = [
        {"action": "RETRY", "onExitCode": "4*"},
        {"action": "EXIT", "onStatusReason": "Essential container*"},
    ]
    strategy = {"attempts": 3, "evaluateOnExit": rules}
    ends = {
        script: len(batch.wait(batch.submit(script, retryStrategy=strategy))["attempts"])
        for script in ("exit 42", "exit 5", "exit 0", '[ "$AWS_BATCH_JOB_ATTEMPT" = 2 ] || exit 4')
    }
    assert list(ends.values()) == [3, 1, 1, 2]
    plain = batch.wait(batch.submit("exit 1", retryStrategy={"attempts": 2}))
    streams = {attempt["container"]["logStreamName"] for attempt in plain["attempts"]}
    assert len(streams) == 2


def test_timeout_ends_an_attempt_for_good(batch: BatchAccount) -> None:
    """A job beyond its timeout would go on, or be tried again."""
    job = batch.wait(
        batch.submit(
            "trap '' TERM; while :; do sleep 0.01; done",
            timeout={"attemptDurationSeconds": 60},
            retryStrategy={"attempts": 3},
        )
    )
    assert (job["status"], len(job["attempts"])) == ("FAILED", 1)
    assert job["statusReason"] == "Job attempt duration exceeded timeout"
    assert job["container"]["exitCode"] == 137
    # 60 and 30 of Batch's seconds of 10 ms each.
    assert job["attempts"][0]["stoppedAt"] - job["startedAt"] >= 900


def test_terminate_sends_term_first(batch: BatchAccount, logs: KeptLogs) -> None:
    """A job could not save its work, or a terminated one would count as succeeded."""
    job = batch.submit("trap 'echo saved; exit 0' TERM; echo up; while :; do sleep 0.01; done")
    running = batch.wait(job, "RUNNING")
    stream = running["container"]["logStreamName"]
    deadline = time.monotonic() + WAIT
    while not logs.lines[stream]:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    batch.client.terminate_job(jobId=job, reason="enough")
    ended = batch.wait(job)
    assert (ended["status"], ended["statusReason"]) == ("FAILED", "enough")
    assert ended["isTerminated"] and ended["container"]["exitCode"] == 0
    assert logs.lines[stream] == [b"up", b"saved"]


def test_cancel_reaches_only_what_has_not_begun(batch: BatchAccount) -> None:
    """Cancel would kill a running job, or leave a waiting one."""
    running = batch.submit("while :; do sleep 0.01; done")
    batch.wait(running, "RUNNING")
    batch.server.set_placing(batch.environment, False)
    waiting = batch.submit("true")
    batch.wait(waiting, "RUNNABLE")
    after = batch.submit("true", dependsOn=[{"jobId": running}])
    batch.wait(after, "PENDING")
    for job in (running, waiting, after):
        batch.client.cancel_job(jobId=job, reason="not needed")
    assert batch.job(waiting)["statusReason"] == "not needed"
    assert batch.job(running)["status"] == "RUNNING"
    # One that waits for others goes only when they have ended.
    assert (batch.job(after)["status"], batch.job(after)["isCancelled"]) == ("PENDING", True)
    batch.client.terminate_job(jobId=running, reason="end")
    assert batch.wait(after)["statusReason"] == "not needed"


def test_reaching_an_array_reaches_its_children(batch: BatchAccount) -> None:
    """Children of a terminated array would run on."""
    array = batch.submit("while :; do sleep 0.01; done", arrayProperties={"size": 3})
    batch.wait(f"{array}:2", "RUNNING")
    batch.client.terminate_job(jobId=array, reason="all of it")
    assert batch.wait(array)["arrayProperties"]["statusSummary"]["FAILED"] == 3
    assert batch.job(f"{array}:1")["statusReason"] == "all of it"


def test_dependencies_hold_jobs_back(batch: BatchAccount) -> None:
    """A dependant would begin too early, or after a failure."""
    first = batch.submit("sleep 0.1")
    second = batch.submit("true", dependsOn=[{"jobId": first}])
    broken = batch.submit("exit 1")
    never = batch.submit("true", dependsOn=[{"jobId": broken}, {"jobId": second}])
    assert batch.wait(second)["startedAt"] >= batch.job(first)["stoppedAt"]
    assert batch.wait(never)["statusReason"] == "Dependent Job failed"
    assert batch.job(never)["attempts"] == []
    late = batch.submit("true", dependsOn=[{"jobId": broken}])
    assert batch.wait(late)["status"] == "FAILED"


def test_arrays_depend_index_by_index(batch: BatchAccount) -> None:
    """N_TO_N or SEQUENTIAL would order children wrongly."""
    size = {"size": 3}
    script = '[ "$AWS_BATCH_JOB_ARRAY_INDEX" != 1 ]'
    first = batch.submit(script, arrayProperties=size)
    second = batch.submit(
        "true", arrayProperties=size, dependsOn=[{"jobId": first, "type": "N_TO_N"}]
    )
    batch.wait(second)
    ends = [batch.job(f"{second}:{index}")["status"] for index in range(3)]
    assert ends == ["SUCCEEDED", "FAILED", "SUCCEEDED"]

    row = batch.submit("true", arrayProperties=size, dependsOn=[{"type": "SEQUENTIAL"}])
    batch.wait(row)
    children = [batch.job(f"{row}:{index}") for index in range(3)]
    for before, after in itertools.pairwise(children):
        assert before["stoppedAt"] <= after["startedAt"]


def test_at_most_100_jobs_are_described(batch: BatchAccount) -> None:
    """A client that asks for too many at once would get away with it."""
    text = refusal(batch.client.describe_jobs, jobs=["x"] * 101)
    assert "Maximum number of jobs supported" in text
    assert batch.client.describe_jobs(jobs=["x"] * 100)["jobs"] == []


def test_listing_has_one_selector_a_status_and_one_filter(batch: BatchAccount) -> None:
    """A search for a lost submission would find what AWS would not show."""
    listed = batch.client.list_jobs
    assert "Exactly one" in refusal(listed)
    assert "Exactly one" in refusal(listed, jobQueue="queue", arrayJobId="x")
    ids = [batch.submit("true", jobName=f"run-{n}") for n in range(3)]
    batch.submit("true", jobName="other")
    for job in ids:
        batch.wait(job)
    # Without a status it is RUNNING's.
    assert listed(jobQueue="queue")["jobSummaryList"] == []
    named = [{"name": "JOB_NAME", "values": ["RUN-*"]}]
    found = listed(jobQueue="queue", filters=named)["jobSummaryList"]
    assert [each["jobId"] for each in found] == ids[::-1]
    pages = batch.client.get_paginator("list_jobs").paginate(
        jobQueue="queue", filters=named, PaginationConfig={"PageSize": 2}
    )
    assert [len(page["jobSummaryList"]) for page in pages] == [2, 1]
    twice = [*named, {"name": "SHARE_IDENTIFIER", "values": ["a"]}]
    assert "one filter" in refusal(listed, jobQueue="queue", filters=twice)


def test_fair_share_needs_a_share(batch: BatchAccount) -> None:
    """A submission without a share would be taken on a fair-share queue."""
    batch.server.add_queue("fair", batch.environment, fair_share=True)
    request = {"jobName": "a", "jobQueue": "fair", "jobDefinition": "definition"}
    assert "required" in refusal(batch.client.submit_job, **request)
    job = batch.client.submit_job(**request, shareIdentifier="me")["jobId"]
    assert batch.wait(job)["shareIdentifier"] == "me"


def test_ended_jobs_are_forgotten(processes: Processes) -> None:
    """Nobody would know what a client makes of a job that is gone."""
    batch = BatchAccount(processes, Settings(delays=INSTANT, day_s=0.05))
    batch.register()
    job = batch.submit("true")
    batch.wait(job)
    deadline = time.monotonic() + WAIT
    while batch.client.describe_jobs(jobs=[job])["jobs"]:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    batch.close()


def test_new_jobs_are_not_seen_at_once(batch: BatchAccount) -> None:
    """A client that takes an absent job for one that never was would pass the tests."""
    batch.server.set_visibility((0.3, 0.3))
    job = batch.submit("true")
    assert batch.client.describe_jobs(jobs=[job])["jobs"] == []
    deadline = time.monotonic() + WAIT
    while not batch.client.describe_jobs(jobs=[job])["jobs"]:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    batch.wait(job)


def test_answers_are_lost_after_the_effect_or_before(batch: BatchAccount) -> None:
    """Nobody could test what happens to a submission whose answer is lost."""
    batch.server.faults.add("SubmitJob", Fault.LOST_REQUEST)
    batch.server.faults.add("SubmitJob", Fault.LOST_ANSWER)
    for there in (0, 1):
        with pytest.raises(HTTPClientError):
            batch.submit("true")
        assert len(batch.server.jobs()) == there


def test_calls_are_throttled(batch: BatchAccount) -> None:
    """Nobody could test what throttling does, or that the rate is kept."""
    batch.server.faults.add("DescribeJobs", Fault.THROTTLED)
    with pytest.raises(ClientError) as caught:
        batch.client.describe_jobs(jobs=["x"])
    assert caught.value.response["Error"]["Code"] == "TooManyRequestsException"
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 429
    batch.server.faults.limit("ListJobs", 2)
    with pytest.raises(ClientError):
        for _ in range(10):
            batch.client.list_jobs(jobQueue="queue")


def test_host_that_dies_takes_its_jobs(batch: BatchAccount) -> None:
    """A lost host could not be told from a job that failed."""
    job = batch.submit(
        'echo "$AWS_BATCH_JOB_ATTEMPT"; [ "$AWS_BATCH_JOB_ATTEMPT" = 2 ] || sleep 60',
        retryStrategy={"attempts": 2},
    )
    batch.wait(job, "RUNNING")
    instance = batch.server.lose_host_of(job)
    ended = batch.wait(job)
    assert ended["status"] == "SUCCEEDED"
    first = ended["attempts"][0]
    assert first["statusReason"] == f"Host EC2 (instance {instance}) terminated."
    assert "exitCode" not in first["container"]


def test_job_that_is_never_placed_says_why(batch: BatchAccount) -> None:
    """The reason of a stuck job, or the queue's snapshot, would not be there to explain it."""
    over = {"resourceRequirements": requirements(8, 64)}
    large = batch.submit("true", containerOverrides=over)
    stuck = batch.wait(large, lambda job: "statusReason" in job)
    assert stuck["status"] == "RUNNABLE"
    assert stuck["statusReason"] == "MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT"
    behind = batch.submit("true")
    batch.wait(behind, "RUNNABLE")
    front = batch.client.get_job_queue_snapshot(jobQueue="queue")["frontOfQueue"]["jobs"]
    assert [each["jobArn"].rpartition("/")[2] for each in front] == [large, behind]
    batch.client.terminate_job(jobId=large, reason="too large")
    assert batch.wait(behind)["status"] == "SUCCEEDED"


def test_queue_cancels_what_is_stuck(batch: BatchAccount) -> None:
    """jobStateTimeLimitActions would have no effect."""
    reason = "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY"
    limit = {"reason": reason, "state": "RUNNABLE", "maxTimeSeconds": 600, "action": "CANCEL"}
    full = batch.server.add_environment("full", places=False)
    batch.server.add_queue("limited", full, limits=[{**limit, "maxTimeSeconds": 60}])
    job = batch.wait(batch.submit("true", jobQueue="limited"))
    assert job["statusReason"].startswith("Canceled by JobStateTimeLimit action due to reason")
    (queue,) = batch.client.describe_job_queues(jobQueues=["limited"])["jobQueues"]
    assert queue["jobStateTimeLimitActions"][0]["reason"] == reason
    (found,) = batch.client.describe_compute_environments(computeEnvironments=["full"])[
        "computeEnvironments"
    ]
    assert found["status"] == "VALID"


def test_missing_image_fails_before_the_start(batch: BatchAccount, processes: Processes) -> None:
    """An image that isn't there could not be told from a job that failed."""
    processes.missing.add("nobody/nothing")
    batch.register("absent", image="nobody/nothing")
    job = batch.wait(batch.submit("true", jobDefinition="absent"))
    assert job["statusReason"] == "Task failed to start"
    assert job["container"]["reason"].startswith("CannotPullContainerError")
    assert not {"exitCode", "logStreamName"} & job["container"].keys()
    assert "startedAt" not in job["attempts"][0]


def test_containers_of_a_task_start_in_order(batch: BatchAccount, logs: KeptLogs) -> None:
    """A task of several containers would not do as ``dependsOn`` and ``essential`` say."""
    small = {"resourceRequirements": requirements(1, 64), "image": "local/deb"}
    containers = [
        {
            **small,
            "name": "main",
            "essential": False,
            "command": ["sh", "-c", "date +%s%N; exit 4"],
            "dependsOn": [{"containerName": "stage", "condition": "SUCCESS"}],
        },
        {**small, "name": "stage", "essential": False, "command": ["date", "+%s%N"]},
        {
            **small,
            "name": "side",
            "essential": False,
            "command": ["sh", "-c", "trap 'echo bye; exit 0' TERM; while :; do sleep 0.01; done"],
        },
        {
            **small,
            "name": "agent",
            "command": ["true"],
            "dependsOn": [
                {"containerName": "main", "condition": "COMPLETE"},
                {"containerName": "side", "condition": "START"},
            ],
        },
    ]
    batch.client.register_job_definition(
        jobDefinitionName="several",
        type="container",
        ecsProperties={"taskProperties": [{"containers": containers}]},
    )
    answer = batch.client.submit_job(jobName="x", jobQueue="queue", jobDefinition="several")
    job = batch.wait(answer["jobId"])
    (task,) = job["attempts"][0]["taskProperties"]
    codes = {each["name"]: each.get("exitCode") for each in task["containers"]}
    assert (codes["main"], codes["stage"], codes["agent"]) == (4, 0, 0)
    assert job["status"] == "SUCCEEDED" and "container" not in job
    streams = {each["name"]: each["logStreamName"] for each in task["containers"]}
    assert streams["main"].startswith("several/main/")
    assert int(logs.lines[streams["stage"]][0]) < int(logs.lines[streams["main"]][0])


def test_many_quick_jobs_are_terminated_midway(batch: BatchAccount) -> None:
    """A job that ends while it is started, or is ended then, would stay where it is for ever."""
    batch.environment.max_vcpus = 50
    array = batch.submit("true", arrayProperties={"size": 300})

    def some(job: dict[str, Any]) -> bool:
        return bool(job["arrayProperties"]["statusSummary"]["SUCCEEDED"] > 20)

    batch.wait(array, some)
    batch.client.terminate_job(jobId=array, reason="midway")
    counts = batch.wait(array)["arrayProperties"]["statusSummary"]
    assert counts["SUCCEEDED"] + counts["FAILED"] == 300


def several(*containers: dict[str, Any]) -> dict[str, Any]:
    """A definition of a task of these containers, each of 1 vCPU and 64 MiB."""
    whole = [{**container(), **each} for each in containers]
    return {
        "jobDefinitionName": "several",
        "type": "container",
        "ecsProperties": {"taskProperties": [{"containers": whole}]},
    }


def after(name: str, condition: str = "COMPLETE") -> dict[str, Any]:
    return {"dependsOn": [{"containerName": name, "condition": condition}]}


@pytest.mark.parametrize(
    ("containers", "text"),
    [
        ([{}], "names of their own"),
        ([{"name": "a"}, {"name": "a"}], "names of their own"),
        ([{"name": "a", "essential": False}], "essential container"),
        ([{"name": "a", **after("b")}], "names no container"),
        ([{"name": "a"}, {"name": "b", **after("a", "SUCCESS")}], "essential container a"),
        (
            [
                {"name": "main"},
                {"name": "a", "essential": False, **after("b")},
                {"name": "b", "essential": False, **after("a")},
            ],
            "circle",
        ),
        ([{"name": f"c{number}"} for number in range(11)], "1 to 10"),
    ],
)
def test_task_that_cannot_be_is_refused(
    batch: BatchAccount, containers: list[dict[str, Any]], text: str
) -> None:
    """A task that ECS refuses, or that would never end, could be registered."""
    assert text in refusal(batch.client.register_job_definition, **several(*containers))


def test_overrides_fit_their_definition(batch: BatchAccount) -> None:
    """An override that AWS refuses, or does not heed, would have its effect."""
    batch.client.register_job_definition(**several({"name": "main"}))
    request = {"jobName": "a", "jobQueue": "queue", "jobDefinition": "several"}
    other = {"taskProperties": [{"containers": [{"name": "other"}]}]}
    text = refusal(batch.client.submit_job, **request, ecsPropertiesOverride=other)
    assert "names no container" in text
    text = refusal(batch.client.submit_job, **request, containerOverrides={"command": ["true"]})
    assert "does not fit" in text

    batch.client.register_job_definition(
        jobDefinitionName="fargate",
        type="container",
        **FARGATE,
    )
    request["jobDefinition"] = "fargate"
    assert "no compute environment for FARGATE" in refusal(batch.client.submit_job, **request)
    batch.server.add_queue("fargate", batch.server.add_environment("f", kind="FARGATE"))
    request["jobQueue"] = "fargate"
    over = {"resourceRequirements": [{"type": "MEMORY", "value": "4096"}]}
    assert "no pair" in refusal(batch.client.submit_job, **request, containerOverrides=over)

    # The old keys of an override do nothing where the definition has requirements.
    old = batch.submit("true", containerOverrides={"vcpus": 100, "memory": 100_000})
    assert batch.wait(old)["status"] == "SUCCEEDED"
    assert not {"vcpus", "memory"} & batch.job(old)["container"].keys()


def test_too_many_propagated_tags_fail_the_accepted_job(batch: BatchAccount) -> None:
    """What AWS accepts and then fails would run in the tests."""
    batch.client.register_job_definition(
        jobDefinitionName="tagged",
        type="container",
        containerProperties=container(),
        tags={f"d{number}": "" for number in range(30)},
    )
    tags = {f"j{number}": "" for number in range(21)}
    ends = [
        batch.wait(batch.submit("true", jobDefinition="tagged", tags=tags, propagateTags=told))
        for told in (True, False)
    ]
    assert [each["status"] for each in ends] == ["FAILED", "SUCCEEDED"]


def test_environment_has_room_for_its_maximum_only(batch: BatchAccount) -> None:
    """Jobs would never wait for one another."""
    batch.environment.max_vcpus = 1
    first, second = (batch.submit("sleep 0.1") for _ in range(2))
    ends = sorted(
        (batch.wait(job) for job in (first, second)), key=lambda job: int(job["startedAt"])
    )
    assert ends[0]["attempts"][0]["stoppedAt"] <= ends[1]["startedAt"]


def test_end_is_told_a_little_later(processes: Processes) -> None:
    """A client would see an exit code in a job that still counts as running."""
    slow = Delays(submitted=(0, 0), runnable=(0, 0), starting=(0, 0), ended=(30, 30))
    batch = BatchAccount(processes, Settings(delays=slow))
    batch.register()
    job = batch.submit("exit 3")
    told = []
    while not told or told[-1]["status"] not in ENDED:
        told.append(batch.job(job))
    running = [each for each in told if each["status"] == "RUNNING"]
    assert running and all("exitCode" not in each["container"] for each in running)
    assert told[-1]["container"]["exitCode"] == 3
    batch.close()
