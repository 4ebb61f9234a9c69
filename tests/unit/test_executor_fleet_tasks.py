"""The Executor's target `fleet`: what a task says, how its end is told; nothing is opened."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from runner import Executor
from runner.api.capabilities import parse_capabilities
from runner.api.fleet_job import (
    TEMPLATE,
    FollowedTask,
    check_job,
    check_name,
    end_of,
    item_of,
    options_of,
    status_of,
)
from runner.api.fleet_options import check_options
from runner.api.tasks import CommandTask, FunctionTask, PayloadReference
from runner.core.states import JobState, JobStatus
from runner.errors import ConflictError
from runner.fleet.records import FleetJob, FleetTask, JobOptions, TaskState
from runner.fleet.task_document import document_of, parameters
from runner.fleet.task_news import EndedTask
from runner.fleet.task_outcome import KEY, TaskOutcome, outcome_of, parse_outcome

JOB = FleetJob(1, "j", "{}", options_of("/r", "j"))
SHA = "0" * 64


def stored(task: FunctionTask | CommandTask, code: str | None = None) -> FleetTask:
    """As a worker finds it."""
    item = item_of(task, code)
    return FleetTask(7, 1, item.key, item.params, TaskState.RUNNING, 2, 0, 0, 2)


def test_a_call_runs_the_template_with_its_own_limits() -> None:
    """Options of a call would be dropped, or its worker not be what runs."""
    wanted = parse_capabilities(
        {"timeout": 90, "retry": 3, "env": {"A": "1"}, "cpus": 2, "memory": "1GiB"}
    )
    call = FunctionTask("f-1-1", "me", "f", PayloadReference("/r/call", SHA, 3), wanted)
    task = stored(call, "/r/_code/x.zip")
    (job,) = document_of(JOB, task).jobs
    assert job.command == json.loads(TEMPLATE)["jobs"][0]["command"]
    assert (job.job_id, job.timeout, job.env) == ("f-1-1", 90, {"A": "1"})
    assert job.retry is not None and job.retry.max_attempts == 3
    assert job.placement.resources is not None and job.placement.resources.cpus == 2
    found = parameters(task)
    assert found.pop("TASK_ID") == "7"
    assert found == {"RUNNER_CALL": f"{SHA} /r/call", "RUNNER_CALL_CODE": "/r/_code/x.zip"}
    assert document_of(JOB).jobs[0].job_id == "call"


def test_a_command_is_its_own() -> None:
    """It would be expanded, split or quoted on its way."""
    script = "echo ${{params.x}} \"$HOME\" 'ü'"
    task = stored(CommandTask("echo-1-1", "me", script=script, result_paths=("out/*",)))
    (job,) = document_of(JOB, task).jobs
    assert (job.job_id, job.command) == ("echo-1-1", script)
    assert [(each.path, each.optional) for each in job.result_paths] == [("out/*", True)]
    argv = stored(CommandTask("x-1-1", "me", argv=("printf", "%s", "a b")))
    assert document_of(JOB, argv).jobs[0].command == "exec printf %s 'a b'"
    assert FollowedTask.stored(task) == FollowedTask(False, True)
    assert FollowedTask.stored(argv) == FollowedTask(False, False)


def test_a_job_of_another_kind_is_not_taken_over() -> None:
    """Calls would be run by another template, or its tasks be answered as if they were calls."""
    check_job(JOB, None)
    check_job(JOB, "/r")
    for options in (
        JobOptions(command="true", results="/r/j/1"),
        replace(JOB.options, template=TEMPLATE + " "),
        replace(JOB.options, keeps_outcomes=False),
    ):
        with pytest.raises(ConflictError, match='"j" with another template'):
            check_job(replace(JOB, options=options), None)
    with pytest.raises(ConflictError, match="and not in /elsewhere"):
        check_job(JOB, "/elsewhere")
    for name in ("a.b", "", "x" * 71):
        with pytest.raises(ValueError, match="no name of a fleet job"):
            check_name(name)
    assert options_of("/r", "j").results != options_of("/r", "j").results


def test_options_are_checked() -> None:
    """A typing error would start no workers, or use another database, in silence."""
    assert check_options({}) == {
        "database": None, "job": None, "results": None, "region": None, "workers": 0
    }  # fmt: skip
    for wrong, error in (
        ({"workers": -1}, ValueError),
        ({"workers": True}, TypeError),
        ({"workers": "2"}, TypeError),
        ({"database": ""}, TypeError),
        ({"results": 3}, TypeError),
    ):
        with pytest.raises(error, match=next(iter(wrong))):
            check_options(wrong)
    with pytest.raises(TypeError, match=r'"worker" is not an option.*did you mean "workers"'):
        Executor(target="fleet", worker=2)


def ended(state: TaskState, outcome: TaskOutcome | None = None, epoch: int = 1) -> EndedTask:
    return EndedTask("x-1-1", state, epoch, epoch, "why", outcome)


def test_an_end_is_told_as_the_job_that_it_was() -> None:
    """A command that failed would pass for a fleet that did, or the other way round."""
    call = FollowedTask(True)
    outcome = TaskOutcome(3, "failed", 2, 7, message="x-1-1: exit status 7")
    end = end_of(ended(TaskState.DONE, outcome), call)
    assert (end.status, end.attempt, end.exit_code) == ("failed", 2, 7)
    assert end.message == "exit status 7" and end.function
    late = replace(outcome, exit_code=None, timed_out=True)
    assert end_of(ended(TaskState.DONE, late), call).status == "timed_out"
    lost = end_of(ended(TaskState.TERMINAL_FAILED), call)
    assert (lost.status, lost.exit_code, lost.message) == ("failed", None, "why")
    unread = end_of(ended(TaskState.DONE), call)
    assert (unread.status, unread.exit_code, unread.message) == ("failed", None, "why")
    assert end_of(ended(TaskState.CANCELLED, epoch=0), call).attempt == 0
    assert end_of(ended(TaskState.CANCELLED, epoch=2), call).attempt == 2


def test_a_status_is_in_a_jobs_words() -> None:
    """People would have to know the fleet's."""
    task = FleetTask(7, 1, "x", {}, TaskState.PENDING, 0, 0, 0, 0)
    words = {
        state: status_of(replace(task, state=state), TaskOutcome(1, "failed"))
        for state in TaskState
    }
    assert words == {
        TaskState.PENDING: "pending",
        TaskState.RUNNING: "running",
        TaskState.DONE: "failed",
        TaskState.RETRYABLE_FAILED: "pending",
        TaskState.TERMINAL_FAILED: "failed",
        TaskState.CANCELLED: "cancelled",
    }
    assert status_of(None, None) == "pending"


def test_an_outcome_reads_back() -> None:
    """How a task ended would be unknown, though its worker has said it."""
    states = [
        JobState(JobStatus.COMPLETED, attempt=1, exit_code=0),
        JobState(JobStatus.FAILED, attempt=2, signal="SIGKILL", started_at=1.0, completed_at=2.5),
    ]
    told = json.dumps({"total_images": 1, KEY: outcome_of(4, states)})
    expected = TaskOutcome(4, "failed", 2, signal="SIGKILL", started_at=1.0, ended_at=2.5)
    assert parse_outcome(told, "x") == expected
    assert outcome_of(4, states[:1])["status"] == "completed"
    assert parse_outcome(None, "x") is None and parse_outcome("{}", "x") is None
