"""Who carries the files of a job on AWS Batch: what is refused, what is told, what goes there."""

from __future__ import annotations

import json
from typing import Any

import pytest
from batch_server.jobs import Definition
from batch_server.limits import check_registration, check_submission
from batch_server.service_model import problems_of_request
from core_driver import drive, job
from test_batch_definitions import COMMANDS
from test_batch_document import EC2, FACTS, MEMORY, queue
from test_batch_verdicts import detail

from runner.batch.definitions import JobNeeds, compose, whole_task
from runner.batch.document_check import notes, refused
from runner.batch.staging import Staging
from runner.core import events as ev
from runner.core.actions import StartAttempt
from runner.core.attempts import token_of
from runner.engine.batch.intents import BatchDefaults, compose_submission, together
from runner.engine.batch.verdicts import EndVerdict, VoidVerdict, judge_plain
from runner.model.document import ArraySpec, BatchSpec, Placement

NONE: dict[str, Any] = {"batch": {"staging": "none"}}
IN_IMAGE: dict[str, Any] = {"batch": {"staging": "in-image"}}


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"result_paths": ["a"]}, ".result_paths: nobody carries the files"),
        ({"output_paths": ["a"]}, ".output_paths: nobody carries the files"),
        ({"checkpoint_paths": ["a"]}, ".checkpoint_paths: nobody carries the files"),
        ({"input_paths": [{"s3": "s3://bucket/a", "path": "a"}]}, ".input_paths: nobody carries"),
        ({"secret_env": {"S": "ssm:/a"}}, ".secret_env: has secrets, which nobody reads"),
        ({"term_grace": "90s"}, ".term_grace: with staging none AWS Batch waits 30s"),
        ({"timeout": "30s"}, ".timeout: 30s: with staging none AWS Batch keeps the time"),
        ({"command": "x" * 9_000}, ".command: command and variables of a plain job are 9,"),
        (
            {"array": 2, "working_directory": "/d/{array_index}"},
            ".working_directory: {array_index}",
        ),
    ],
)
def test_what_a_plain_job_cannot_have_is_refused(more: dict[str, Any], told: str) -> None:
    """What the document says would be passed over in silence."""
    (line,) = refused(queue({**NONE, **more}), FACTS)
    assert told in line
    assert refused(queue({**IN_IMAGE, **more}), FACTS) == []


def test_what_is_done_in_another_way_is_told() -> None:
    """A job that may run twice, or an image without Python, would be found out later."""
    jobs = ({**NONE, "depends_on": ["j1"]}, {**IN_IMAGE, "result_paths": ["a"]})
    told = notes(queue(*jobs), EC2)
    assert any("it may run twice" in line for line in told)
    assert any("needs Python 3.11 or later" in line for line in told)
    assert any('"j0" has staging none: no file of "j1" comes to it' in line for line in told)
    assert not any("for the containers that carry its files" in line for line in told)
    assert any("make a Fargate task" in line for line in notes(queue({**MEMORY, **NONE}), FACTS))


@pytest.mark.parametrize("fargate", [False, True])
@pytest.mark.parametrize("staging", [Staging.IN_IMAGE, Staging.NONE])
def test_a_definition_of_one_container_is_one_that_batch_takes(
    staging: Staging, fargate: bool
) -> None:
    """Every job of the queue would be refused."""
    role = "arn:aws:iam::123456789012:role/r"
    needs = JobNeeds(
        "i", "python", 1.0, 2 << 30, shm=1 << 30, ephemeral=30 << 30, fargate=fargate,
        job_role=role, execution_role=role, shared="efs:fs-12345678:/d", staging=staging,
    )  # fmt: skip
    request = compose(needs, COMMANDS)
    assert problems_of_request("RegisterJobDefinition", request) == []
    check_registration(request, len(json.dumps(request)))
    mib = 2048 + (256 if staging is Staging.IN_IMAGE else 0)
    assert whole_task(needs) == (1, 3072 if fargate and mib > 2048 else mib)


def _composed(staging: str, *, size: int | None = None, starts: list[tuple[int, int]]) -> Any:
    """``starts``: (place of the unit, number of the attempt)."""
    placed = Placement(batch=BatchSpec(staging=staging))
    more: dict[str, Any] = {"placement": placed, "env": {"X": "1"}, "timeout": 90.5}
    q = drive(job("a", array=ArraySpec(size) if size else None, **more))
    run_id = q.core.queue.run_id
    actions = [
        StartAttempt(unit, attempt, token_of(run_id, n), 0, 0)
        for n, (unit, attempt) in enumerate(starts, 1)
    ]
    target = BatchDefaults("queue", "us-east-1", "i")
    return [
        compose_submission(target, q.core, "q", "s3://bucket/q", COMMANDS, 30.0, (), group)
        for group in together(q.core, actions)
    ]


@pytest.mark.parametrize("staging", ["none", "in-image"])
def test_a_submission_is_one_that_batch_takes(staging: str) -> None:
    """Every job of the queue would be refused, or be told nothing."""
    (composed,) = _composed(staging, starts=[(0, 1)])
    request = composed.request
    whole = {**request, "jobDefinition": "d:1"}
    assert problems_of_request("SubmitJob", whole) == []
    made = Definition("d", 1, "arn", composed.definition)
    check_submission(whole, len(json.dumps(whole)), made, fair_share=False)
    plain = staging == "none"
    assert request["timeout"] == {"attemptDurationSeconds": 91 if plain else 3721}
    told = json.dumps(request)
    assert ("RUNNER_SUBMISSION" in told, '"X"' in told) == (not plain, plain)


def test_plain_elements_go_together_as_far_as_their_indices_follow_each_other() -> None:
    """A smaller array's children would take the first elements for their own."""
    first = _composed("none", size=4, starts=[(n, 1) for n in range(4)])
    again = _composed("none", size=4, starts=[(1, 2), (2, 2), (3, 3)])
    assert [each.request.get("arrayProperties") for each in first] == [{"size": 4}]
    assert [each.request.get("arrayProperties") for each in again] == [{"size": 2}, None]
    indices = [
        {v["name"]: v["value"] for v in each.request["containerOverrides"]["environment"]}
        for each in again
    ]
    assert [each["RUNNER_ARRAY_INDEX"] for each in indices] == ["1", "3"]


def _plain(asked: bool = False, **more: Any) -> EndVerdict | VoidVerdict:
    return judge_plain(detail(**more), asked=asked)


def test_the_word_of_batch_stands_for_a_plain_job() -> None:
    """An exit code would be taken for a lost host, or a job of a bad image be tried for ever."""
    exited = "Essential container in task exited"
    found = _plain(said=exited, exitCode=137)
    assert isinstance(found, EndVerdict) and found.outcome == ev.Exited(137)
    found = _plain(said="Host EC2 (instance i-1) terminated.")
    assert isinstance(found, EndVerdict) and isinstance(found.outcome, ev.Lost)
    assert found.outcome.announced
    found = _plain(said="Job attempt duration exceeded timeout", exitCode=137)
    assert isinstance(found, EndVerdict) and found.timed_out
    found = _plain(said=exited, reason="OutOfMemoryError: Container killed", exitCode=137)
    assert isinstance(found, EndVerdict) and found.usage is not None and found.usage.oom_kills
    found = judge_plain(None, asked=False)
    assert isinstance(found, EndVerdict) and isinstance(found.outcome, ev.Lost)
