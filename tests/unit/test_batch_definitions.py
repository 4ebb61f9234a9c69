"""Definitions and submissions of AWS Batch: within its limits, and the same for the same needs."""

from __future__ import annotations

import json

import pytest
from batch_server.jobs import Definition
from batch_server.limits import check_registration, check_submission
from batch_server.service_model import problems_of_request
from core_driver import drive, job

from runner.batch.definitions import Commands, JobNeeds, compose, whole_task
from runner.batch.rate import CallRate
from runner.batch.submission import too_long
from runner.core.actions import StartAttempt
from runner.core.attempts import token_of
from runner.engine.batch.intents import BatchDefaults, compose_submission
from runner.engine.batch.outputs_before import OutputsBefore
from runner.model.document import ResultSpec

COMMANDS = Commands(["true"], ["true"], ["true"], ["true"], "s3://bucket/key#0")


@pytest.mark.parametrize("fargate", [False, True])
@pytest.mark.parametrize(("vcpus", "memory"), [(0.25, 512 << 20), (1, 2 << 30), (3, 20 << 30)])
def test_a_definition_is_one_that_batch_takes(fargate: bool, vcpus: float, memory: int) -> None:
    """Every job of the queue would be refused."""
    role = "arn:aws:iam::123456789012:role/r"
    needs = JobNeeds(
        "i", "python", vcpus, memory, fargate=fargate, job_role=role, execution_role=role
    )
    request = compose(needs, COMMANDS)
    assert problems_of_request("RegisterJobDefinition", request) == []
    check_registration(request, len(json.dumps(request)))
    asked = [
        float(each["value"])
        for container in request["ecsProperties"]["taskProperties"][0]["containers"]
        for each in container["resourceRequirements"]
        if each["type"] == "VCPU"
    ]
    assert sum(asked) == whole_task(needs)[0] and sum(asked) >= vcpus
    assert fargate or all(each == int(each) for each in asked), "EC2 has whole vCPUs only"


def test_the_same_needs_have_one_definition() -> None:
    """Ten thousand jobs would register ten thousand definitions."""
    one, other = (compose(JobNeeds("i", "python"), COMMANDS) for _ in range(2))
    bigger = compose(JobNeeds("i", "python", memory=4 << 30), COMMANDS)
    assert one == other and one["jobDefinitionName"] != bigger["jobDefinitionName"]


def test_a_submission_holds_no_environment_and_is_one_that_batch_takes() -> None:
    """Who may describe jobs would read a queue's variables, or a long one fail its job."""
    q = drive(job("a", env={"PASSWORD": "x" * 20_000}, timeout=10.0))
    start = StartAttempt(0, 1, token_of(q.core.queue.run_id, 1), 0, 0)
    composed = compose_submission(
        BatchDefaults("queue", "us-east-1", "i"),
        q.core,
        "q",
        "s3://b/p",
        COMMANDS,
        30.0,
        (),
        [start],
    )
    request = {**composed.request, "jobDefinition": "d:1"}
    assert problems_of_request("SubmitJob", request) == []
    assert too_long(request) is None and "PASSWORD" not in json.dumps(request)
    assert composed.submission.env["PASSWORD"] and "PASSWORD" not in repr(composed.submission)
    made = Definition("d", 1, "arn", compose(JobNeeds("i", "python"), COMMANDS))
    check_submission(request, len(json.dumps(request)), made, fair_share=False)


def test_files_of_all_ancestors_are_brought_back_in_the_order_of_their_ends() -> None:
    """A job would miss the files of the job before the one before it."""
    kept = {"result_paths": (ResultSpec("*.csv"),)}
    q = drive(job("a", **kept), job("b", "a"), job("c", "b", **kept), job("d", "c"), job("e"))
    for name in "abc":
        q.ok(name, ended_at=float(ord(name)))
    before = OutputsBefore(q.core)
    assert [each.job_id for each in before.of("d")] == ["a", "c"]
    assert before.of("e") == ()


def test_calls_are_spaced_and_slowed_by_throttling() -> None:
    """A throttled driver would go on asking as often, and be throttled for ever."""
    rate = CallRate(10.0, burst=2.0)
    assert [rate.take(100.0) for _ in range(3)] == pytest.approx([0.0, 0.0, 0.1])
    rate.throttled()
    assert rate.per_second == 5.0
    for _ in range(20):
        rate.went_well()
    assert rate.per_second == 10.0
