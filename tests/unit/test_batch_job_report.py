"""A Batch job in words: which facts are shown, where they are found, and the console's address."""

from __future__ import annotations

from typing import Any

import pytest

from runner.batch.job_detail import read_job
from runner.batch.job_ids import JobId, job_id_of
from runner.batch.job_report import lines, view
from runner.batch.log_address import LogAddress, log_address, region_of_arn
from runner.errors import RecordError, UsageError

ARN = "arn:aws:batch:eu-west-1:123456789012:job/4c4a0b3e"


def single(**more: Any) -> dict[str, Any]:
    """A job that failed, with one attempt before it, as DescribeJobs answers it."""
    container = {
        "image": "tool",
        "command": ["run", "secret"],
        "environment": [{"name": "TOKEN", "value": "secret"}],
        "exitCode": 3,
        "reason": "odd\x1b[31m",
        "logStreamName": "tool/default/a b",
    }
    attempts = [
        {"startedAt": 2_000, "stoppedAt": 3_000, "statusReason":
         "Host EC2 (instance i-1) terminated.",
         "container": {"logStreamName": "tool/default/first"}},
        {"startedAt": 4_000, "stoppedAt": 94_000, "statusReason":
         "Essential container in task exited",
         "container": {"exitCode": 3, "logStreamName": "tool/default/a b"}},
    ]  # fmt: skip
    return {
        "jobId": "4c4a0b3e", "jobArn": ARN, "jobName": "align", "status": "FAILED",
        "jobQueue": "arn:aws:batch:eu-west-1:123456789012:job-queue/default",
        "jobDefinition": "arn:aws:batch:eu-west-1:123456789012:job-definition/tool:3",
        "statusReason": "Essential container in task exited", "createdAt": 1_000,
        "startedAt": 4_000, "stoppedAt": 94_000, "attempts": attempts, "container": container,
        "retryStrategy": {"attempts": 3}, **more,
    }  # fmt: skip


def test_all_facts_of_a_job_are_shown() -> None:
    """A fact that the console shows would have to be looked for there."""
    text = "\n".join(lines(read_job(single()), 0.0, urls=True))
    for fact in ("4c4a0b3e", "align", "FAILED", "Essential container in task exited", "default",
                 "tool:3", "1970-01-01 00:00:01 UTC", "1970-01-01 00:01:34 UTC", "1m30s",
                 "Exit code:    3", "tool/default/a b", "2 ended, of 3 at most",
                 "Host EC2 (instance i-1) terminated."):  # fmt: skip
        assert fact in text, fact
    assert "\x1b" not in text and "odd\\x1b[31m" in text


def test_data_holds_no_secrets() -> None:
    """Environment and command would stand in the logs of whoever prints JSON."""
    found = view(read_job(single()), 0.0)
    assert "secret" not in str(found)
    assert (found["exit_code"], found["runtime_seconds"]) == (3, 90.0)
    assert found["created_at"] == "1970-01-01T00:00:01.000+00:00"
    assert [each["number"] for each in found["attempts"]] == [1, 2]


def test_job_that_has_not_begun_has_no_times() -> None:
    """Its runtime would be 56 years."""
    raw = single(status="RUNNABLE", startedAt=0, attempts=[], container={"image": "tool"})
    del raw["stoppedAt"]
    found = view(read_job(raw), 1e9)
    assert (found["started_at"], found["runtime_seconds"], found["log_url"]) == (None, None, None)
    assert "Runtime:      -" in "\n".join(lines(read_job(raw), 1e9))


def test_containers_of_several_are_found_where_they_are() -> None:
    """A job of several containers would have no exit code and no log."""
    raw = single()
    ends = [{"name": "main", "exitCode": 4, "logStreamName": "s/main/1"}, {"name": "side"}]
    del raw["container"]
    raw["ecsProperties"] = {
        "taskProperties": [{"containers": [{"name": "side", "essential": False}, {"name": "main"}]}]
    }
    raw["attempts"] = [{"stoppedAt": 5, "taskProperties": [{"containers": ends}]}]
    found = view(read_job(raw), 0.0)
    assert (found["exit_code"], found["log_stream"]) == (4, "s/main/1")
    assert [each["name"] for each in found["containers"]] == ["side", "main"]


def test_attempt_of_a_queue_says_where_its_output_is() -> None:
    """Its log would be looked for in CloudWatch, where it isn't."""
    value = "s3://bucket/queues/q/submissions/r.1.json"
    variables = [{"name": "X", "value": "\0odd"}, {"name": "RUNNER_SUBMISSION", "value": value}]
    raw = single()
    raw["container"]["environment"] = variables
    job = read_job(raw)
    assert job.result_store == "s3://bucket/queues/q"
    assert "its output is kept in s3://bucket/queues/q" in "\n".join(lines(job, 0.0))
    assert read_job(single()).result_store is None


def test_pods_nodes_and_arrays_are_told() -> None:
    """A job of another kind would be told as if nothing were known of it."""
    pod = {"podProperties": {"containers": [{"name": "pod", "exitCode": 6, "reason": "Error"}]}}
    on_eks = single(eksProperties=pod)
    del on_eks["container"]
    assert view(read_job(on_eks), 0.0)["exit_code"] == 6
    nodes = single(nodeProperties={"numNodes": 2, "mainNode": 1})
    assert "the main one is 4c4a0b3e#1" in "\n".join(lines(read_job(nodes), 0.0))
    array = single(arrayProperties={"size": 1000, "statusSummary": {"RUNNING": 0, "FAILED": 1000}})
    assert "1,000 children: 1,000 FAILED" in "\n".join(lines(read_job(array), 0.0))
    child = single(arrayProperties={"index": 7, "statusSummary": {}})
    assert "child 7 of" in "\n".join(lines(read_job(child), 0.0))


@pytest.mark.parametrize(
    ("partition", "host"),
    [("aws", "us-east-1.console.aws.amazon.com"), ("aws-cn", "us-east-1.console.amazonaws.cn")],
)
def test_console_address_is_encoded_as_the_console_does(partition: str, host: str) -> None:
    """The link would lead to a page that says there is no such log group."""
    url = LogAddress("us-east-1", "/aws/batch/job", "d/default/0 a", partition).url
    assert url == (
        f"https://{host}/cloudwatch/home?region=us-east-1#logsV2:log-groups/log-group/"
        "$252Faws$252Fbatch$252Fjob/log-events/d$252Fdefault$252F0$2520a"
    )


def test_region_of_a_log_is_the_jobs() -> None:
    """An answer without the job's ARN, as recorded ones are, would have no address of its log."""
    raw = single()
    del raw["jobArn"]
    job = read_job(raw)
    found = log_address(job, job.containers[0], "us-east-1")
    assert found is not None and found.region == "eu-west-1"


def test_log_of_another_group_or_driver() -> None:
    """A log would be looked for where the definition does not send it."""
    options = {"awslogs-group": "/mine", "awslogs-region": "us-west-2"}
    container = single()["container"]
    own = {**container, "logConfiguration": {"logDriver": "awslogs", "options": options}}
    job = read_job(single(container=own))
    assert log_address(job, job.containers[0]) == LogAddress(
        "us-west-2", "/mine", "tool/default/a b"
    )
    job = read_job(single(container={**container, "logConfiguration": {"logDriver": "splunk"}}))
    assert log_address(job, job.containers[0]) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("4c4a0b3e-1111", JobId("4c4a0b3e-1111")),
        (" 4c4a0b3e:12 ", JobId("4c4a0b3e:12")),
        ("4c4a0b3e#0", JobId("4c4a0b3e#0")),
        (ARN + ":3", JobId("4c4a0b3e:3", "eu-west-1")),
    ],
)
def test_ids_are_taken_as_people_have_them(text: str, expected: JobId) -> None:
    """An ARN from the console would be refused, or asked for in the wrong region."""
    assert job_id_of(text) == expected


@pytest.mark.parametrize("text", ["", "a b", "--job", "arn:aws:batch:x", "a:b", "ä", "x" * 65])
def test_what_cannot_be_an_id_is_refused(text: str) -> None:
    """AWS would be asked for nonsense, and its answer passed on."""
    with pytest.raises(UsageError):
        job_id_of(text)


def test_parts_of_ids_and_arns() -> None:
    """A child's array, or a queue's region, would be taken wrongly."""
    assert (job_id_of("a:12").parent, job_id_of("a:12").index) == ("a", 12)
    assert (job_id_of("a#1").parent, job_id_of("a#1").index) == ("a", None)
    assert (region_of_arn(ARN), region_of_arn("default")) == ("eu-west-1", None)


def test_answer_that_is_no_job_is_refused_by_its_place() -> None:
    """A proxy's answer would end in a traceback."""
    with pytest.raises(RecordError, match="DescribeJobs: status"):
        read_job({"jobId": "a", "jobName": "b", "status": 5})
