"""What is said of a queue's coordinator: whether it lives, why not, and what to do."""

from __future__ import annotations

from typing import Any

import pytest

from runner.aws.errors import AwsError, ErrorKind
from runner.errors import RecordError, UsageError
from runner.model.batch_settings import BatchSettings
from runner.targets.batch.coordinator_job import definition, job_name, submission
from runner.targets.batch.coordinator_options import (
    CoordinatorOptions,
    options_of,
    read_options,
)
from runner.targets.batch.coordinator_state import CoordinatorState, judge
from runner.targets.batch.launch_record import BatchLaunch, parse_launch

LAUNCH = BatchLaunch("q", "s3://bucket/queues/q", "eu-west-1", "jobs", "0123abcd", job="id-1")
AWAY = AwsError(ErrorKind.PASSING, "ConnectionError", "no route to host")


def judged(
    status: str | None = None, *, fresh: bool = False, trouble: AwsError | None = None, **more: Any
) -> CoordinatorState:
    job = None if status is None else {"status": status, **more}
    return judge(LAUNCH, "q", "id-1", job, trouble, fresh=fresh)


def test_a_coordinator_that_runs_is_the_worker() -> None:
    """`wait` would give up on a queue that is driven, or `cancel` not be sent."""
    state = judged("RUNNING", fresh=True)
    assert state.lives and state.standing == {"worker": "coordinator id-1 (AWS Batch)"}
    assert state.source(ended=False) == {}


@pytest.mark.parametrize("status", ["SUBMITTED", "PENDING", "RUNNABLE", "STARTING"])
def test_a_coordinator_that_waits_is_what_the_queue_waits_for(status: str) -> None:
    """A queue whose coordinator finds no room would look as if nobody cared for it."""
    state = judged(status, statusReason="CAPACITY: none")
    assert not state.lives and status in state.standing["queued"]
    assert state.told[0] == f"coordinator id-1 is {status}: CAPACITY: none"
    assert "runner batch explain id-1" in state.source(ended=False)["next"][0]


def test_a_coordinator_that_has_ended_is_told_with_its_reason_and_a_way_on() -> None:
    """Who asks why nothing happens would have to look in AWS's console."""
    state = judged(
        "FAILED",
        statusReason="Essential container in task exited",
        container={"exitCode": 137, "reason": "OutOfMemoryError: killed"},
    )
    assert state.standing == {} and state.known
    assert state.told == (
        "coordinator id-1 has ended: FAILED; Essential container in task exited; exit code 137; "
        "OutOfMemoryError: killed",
        "`runner resume q` starts a coordinator again",
    )
    assert state.source(ended=True) == {}


def test_the_lease_counts_where_batch_says_nothing() -> None:
    """A queue would be taken for deserted whenever Batch is not to be asked."""
    assert judged(fresh=True).standing["worker"].endswith("as far as its lease tells")
    asked = judged(fresh=False, trouble=AWAY)
    assert asked.lives and "no route to host" in asked.told[0]
    gone = judged(fresh=False)
    assert not gone.standing and "doesn't know coordinator id-1 any more" in gone.told[0]
    assert judged("FAILED", fresh=True).standing == {}


def test_a_launch_that_was_cut_off_has_no_coordinator() -> None:
    """The same command again would be refused, for a coordinator that never was."""
    assert not judge(LAUNCH, "q", None, None, None, fresh=False).known


def test_flags_come_before_the_launch_and_that_before_the_settings() -> None:
    """`resume` would run the rest of a queue in other images than its beginning."""
    settings = BatchSettings(job_queue="a", image="one", job_role="arn:aws:iam::1:role/j")
    first = options_of({"image": "two", "max_parallel": 0}, settings, "eu-west-1")
    assert (first.job_queue, first.image, first.max_parallel) == ("a", "two", 0)
    assert first.own_role == "arn:aws:iam::1:role/j"
    again = options_of({"job_queue": "b"}, BatchSettings(image="three"), "eu-west-1", first)
    assert (again.job_queue, again.image, again.max_parallel) == ("b", "two", 0)
    assert read_options(again.plain, "options") == again
    with pytest.raises(UsageError, match="no job queue"):
        options_of({}, BatchSettings(), "eu-west-1")
    with pytest.raises(RecordError, match="options: job_queue"):
        read_options({"job_queue": 7, "region": "eu-west-1"}, "options")


def test_a_launch_is_read_as_it_was_stored() -> None:
    """Another computer would not find the queue's coordinator."""
    launch = BatchLaunch(
        "q", "s3://b/p", "eu-west-1", "jobs", "0123abcd", None, None, "2026-11-28T19:00:00Z",
        options={"job_queue": "jobs"}, again="retry_failed,update", document="0" * 64,
    )  # fmt: skip
    assert parse_launch(launch.encoded(), "a launch") == launch
    with pytest.raises(RecordError, match="version 2"):
        parse_launch(launch.encoded().replace(b'"version": 1', b'"version": 2'), "a launch")


def test_the_same_options_make_the_same_definition() -> None:
    """Each launch would register one more definition, or one run with another's image."""
    options = CoordinatorOptions("jobs", "eu-west-1", execution_role="arn:aws:iam::1:role/e")
    one = definition(options, ["python3"], "s3://b/k#1", fargate=True)
    assert one == definition(options, ["python3"], "s3://b/k#1", fargate=True)
    other = definition(options, ["python3"], "s3://b/k#2", fargate=True)
    assert one["jobDefinitionName"] != other["jobDefinitionName"]
    assert one["platformCapabilities"] == ["FARGATE"]
    rules = one["retryStrategy"]["evaluateOnExit"]
    assert {rule["onExitCode"] for rule in rules} == {"2", "100", "103", "104", "105"}
    on_ec2 = definition(options, ["python3"], None, fargate=False)["containerProperties"]
    # EC2 takes whole vCPUs only.
    assert {"type": "VCPU", "value": "1"} in on_ec2["resourceRequirements"]


def test_a_submission_names_the_store_and_no_secret() -> None:
    """A coordinator would drive another queue; or overrides would be too long for Batch."""
    options = CoordinatorOptions("jobs", "eu-west-1")
    name = job_name("a.queue_with-" + "x" * 128, "0123456789abcdef")
    assert len(name) == 128 and name.startswith("runner-coordinator-01234567-a-queue_with-x")
    request = submission(name, options, "d:1", "s3://b/p", fair_share=True)
    assert request["shareIdentifier"] == "runner"
    assert "shareIdentifier" not in submission(name, options, "d:1", "s3://b/p", fair_share=False)
    environment = {
        each["name"]: each["value"] for each in request["containerOverrides"]["environment"]
    }
    assert environment == {"RUNNER_STORE": "s3://b/p", "AWS_REGION": "eu-west-1"}
