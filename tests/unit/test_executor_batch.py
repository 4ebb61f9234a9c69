"""Tasks as jobs of AWS Batch, and the options of that target: pure."""

from __future__ import annotations

from typing import Any

import pytest

from runner import Executor
from runner.api.batch_definition import capabilities_of
from runner.api.batch_jobs import BatchManner, array_of, batch_job_of, call_key
from runner.api.batch_options import check_options
from runner.api.capabilities import parse_capabilities
from runner.api.local_jobs import is_function, names_of
from runner.api.target_registry import check_targets
from runner.api.tasks import CommandTask, FunctionTask, InputFile, PayloadReference
from runner.batch.document_check import BatchFacts, refused
from runner.model.document import QueueSpec, parse_document
from runner.model.durations import LONGEST
from runner.model.serialization import dump_document

MANNER = BatchManner("s3://bucket/p", ("worker-1.zip", "code-2.zip"), None, None, 1000.0)


def call(name: str, **wanted: Any) -> FunctionTask:
    payload = PayloadReference("x", "ab" * 32, 3)
    return FunctionTask(name, "me", "f", payload, parse_capabilities(wanted))


def test_a_call_is_a_job_whose_inputs_are_the_call_and_its_worker() -> None:
    """The container would have nothing to run, or take another call's."""
    wanted = {"cpus": 2, "memory": "4GiB", "gpus": 1, "image": "i:1", "queue": "gpu", "timeout": 7}
    job = batch_job_of(call("f-1", **wanted, env={"A": "1"}, retry=3), MANNER)
    assert is_function(job) and job.command == f"{'ab' * 32} .runner/call"
    assert [(each.s3, each.path) for each in job.input_paths] == [
        ("s3://bucket/p/calls/worker-1.zip", ".runner/worker.zip"),
        ("s3://bucket/p/calls/code-2.zip", ".runner/code-2.zip"),
        ("s3://bucket/p/calls/f-1.call", ".runner/call"),
    ]
    assert (job.timeout, dict(job.env), job.retry and job.retry.max_attempts) == (
        7.0,
        {"A": "1"},
        3,
    )
    placed = job.placement
    assert placed.image == "i:1" and placed.batch is not None and placed.resources is not None
    assert (placed.batch.queue, placed.batch.staging) == ("gpu", "in-image")
    assert (placed.resources.cpus, placed.resources.gpus) == (2, 1)


def test_an_exception_is_left_behind_by_the_attempt_that_fails() -> None:
    """Results of attempts that fail aren't stored: every exception would be lost."""
    job = batch_job_of(call("f-1"), MANNER)
    assert [each.path for each in job.result_paths] == [*job.checkpoint_paths]
    assert all(each.optional for each in job.result_paths)


def test_a_command_is_as_in_a_document() -> None:
    """Its variables, inputs, results or words would be other ones than on this machine."""
    task = CommandTask(
        "c-1", "me", argv=("echo", "a b"), env={"A": "1"}, result_paths=("*.txt",),
        input_paths=(InputFile("s3://in/x", "x"),), capabilities=parse_capabilities({"vcpus": 1}),
    )  # fmt: skip
    job = batch_job_of(task, MANNER)
    assert (job.command, dict(job.env), job.timeout) == ("exec echo 'a b'", {"A": "1"}, 1000.0)
    assert (job.input_paths[0].s3, job.result_paths[0].path) == ("s3://in/x", "*.txt")
    assert not is_function(job) and not job.checkpoint_paths


def test_calls_of_map_are_the_elements_of_one_array() -> None:
    """A thousand calls would be a thousand submissions, or all run the first one's call."""
    job = array_of("f-9", call("f-9[0]"), 3, MANNER)
    assert job.array is not None and job.array.size == 3
    assert names_of(job) == ["f-9[0]", "f-9[1]", "f-9[2]"]
    assert job.input_paths[-1].s3 == "s3://bucket/p/calls/f-9/{array_index}.call"
    assert call_key("f-9[2]") == "calls/f-9/2.call" and job.command == " .runner/call"


@pytest.mark.parametrize("task", [call("f-1", cpus=1), CommandTask("c-1", "me", script="true")])
def test_its_jobs_are_such_as_a_document_may_hold(task: Any) -> None:
    """A queue with them could not be read again: the next session would call it damaged."""
    queue = QueueSpec("q", "q", (batch_job_of(task, MANNER),), LONGEST, "continue")
    assert not refused(queue, BatchFacts(True, "image"))
    assert parse_document(dump_document(queue).encode()).jobs[0] == queue.jobs[0]


CONTAINER = {
    "image": "i:2",
    "command": ["x"],
    "jobRoleArn": "arn:role",
    "resourceRequirements": [
        {"type": "VCPU", "value": "0.5"},
        {"type": "MEMORY", "value": "2048"},
        {"type": "GPU", "value": "1"},
    ],
    "environment": [{"name": "A", "value": "1"}],
    "linuxParameters": {"initProcessEnabled": True, "devices": []},
    "volumes": [],
    "privileged": False,
    "runtimePlatform": {"cpuArchitecture": "X86_64"},
}
ROLES = {"jobRoleArn": "arn:role", "executionRoleArn": None}


def test_a_job_definition_says_what_its_jobs_need() -> None:
    """A command that names one would run in another image, or with other memory."""
    definition = {
        "type": "container",
        "containerProperties": CONTAINER,
        "timeout": {"attemptDurationSeconds": 90},
        "retryStrategy": {"attempts": 3},
    }
    found = capabilities_of("d:1", definition, ROLES)
    assert (found.image, found.cpus, found.memory, found.gpus) == ("i:2", 0.5, 2 << 30, 1)
    assert (dict(found.env), found.timeout) == ({"A": "1"}, 90.0)
    assert found.retry is not None and found.retry.max_attempts == 3
    old = {"image": "i", "vcpus": 2, "memory": 512}
    found = capabilities_of("d", {"type": "container", "containerProperties": old}, ROLES)
    assert (found.cpus, found.memory) == (2, 512 << 20)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"volumes": [{"name": "v"}]}, "d has volumes"),
        ({"privileged": True}, "d has privileged"),
        ({"user": "me"}, "d has user"),
        ({"linuxParameters": {"sharedMemorySize": 3}}, "d has linuxParameters"),
        ({"runtimePlatform": {"cpuArchitecture": "ARM64"}}, "d has runtimePlatform"),
        ({"jobRoleArn": "arn:other"}, "jobRoleArn arn:other: .* its option job_role"),
        ({"executionRoleArn": "arn:e"}, "its option execution_role"),
    ],
)
def test_what_can_not_be_taken_over_of_it_is_refused(more: dict[str, Any], told: str) -> None:
    """A job would run without its volumes, or with other rights, in silence."""
    definition = {"type": "container", "containerProperties": {**CONTAINER, **more}}
    with pytest.raises(ValueError, match=told):
        capabilities_of("d", definition, ROLES)
    with pytest.raises(ValueError, match="not of one container"):
        capabilities_of("d", {"type": "multinode"}, ROLES)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"job_queu": "q"}, 'did you mean "job_queue"'),
        ({"region": "here"}, 'region: "here" is not a region'),
        ({"bucket": "B"}, "bucket"),
        ({"job_role": "me"}, "job_role: .*ARN"),
        ({"staging": "none"}, 'staging: must be "containers" or "in-image"'),
        ({"every": 0}, "every: must be seconds"),
        ({"max_workers": 0}, "max_workers must be greater"),
        ({"max_workers": "2"}, "max_workers must be a whole number"),
        ({"share": 3}, "share must be"),
    ],
)
def test_wrong_options_are_refused_by_name(given: dict[str, Any], told: str) -> None:
    """A wrong region or role would be told by AWS, after the first submit."""
    with pytest.raises((ValueError, TypeError), match=told):
        check_targets({"batch": given})


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing would say what target `batch` needs."""
    for name in ("RUNNER_BATCH_JOB_QUEUE", "RUNNER_BATCH_BUCKET", "RUNNER_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ValueError, match="job_queue: is missing"):
        Executor(target="batch")
    with pytest.raises(ValueError, match="bucket: is missing"):
        Executor(target="batch", job_queue="q")
    assert check_options({"image": None, "job_queue": "q"}) == {"job_queue": "q"}
