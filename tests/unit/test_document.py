"""The queue document: every rule of its fields, how errors are told, and what is read back."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from runner.errors import DocumentError, ExitCode, UsageError
from runner.model import fields, placement_fields
from runner.model.document import (
    ArraySpec,
    BatchSpec,
    InputSpec,
    JobSpec,
    Placement,
    QueueSpec,
    ResourceSpec,
    ResultSpec,
    RetrySpec,
    dump_document,
    first_difference,
    grace,
    job_difference,
    json_schema,
    parse_document,
    parse_stored,
    read_document,
)
from runner.model.notify import NotifySpec
from runner.model.placement import NO_PLACEMENT
from runner.model.secrets import SecretReference, parse_reference

QUEUE: dict[str, Any] = {"queue_name": "n", "global_timeout": "1h", "on_failure": "stop"}
JOB: dict[str, Any] = {"job_id": "a", "command": "true", "timeout": "1m"}

FULL: dict[str, Any] = {
    "$schema": "x",
    "x-owner": {"any": ["thing", None, {"x": 1}]},
    "queue_id": "nightly-1",
    "queue_name": "Nächtlich",
    "jobs": [
        {
            "job_id": "prepare",
            "command": "make 'data' # é 😀",
            "timeout": "1h30m",
            "x-note": 1,
        },
        {
            "job_id": "train",
            "command": "python train.py",
            "timeout": "2h",
            "depends_on": ["prepare"],
            "run_if": "always",
            "env": {"SEED": "7", "x-why": 5},
            "secret_env": {"TOKEN": "ssm:/train/token", "x-who": 1},
            "retry": {
                "max_attempts": 3,
                "backoff": "fixed",
                "base_delay": "2s",
                "max_delay": "1m",
                "retry_on_codes": [75, 255],
                "dont_retry_on_codes": [1],
                "retry_on": ["signal", "exit"],
                "x-because": "flaky",
            },
            "result_paths": ["/tmp/models/*.pt", {"path": "logs/**/*.log", "optional": True}],
            "input_paths": [
                {"s3": "s3://data-1/sets/{queue_id}/", "path": "in/{job_id}/", "x-n": 1},
                {"s3": "s3://data-1/a {b c} {", "path": "/srv/a"},
            ],
            "inputs_in_timeout": True,
            "keep_background": True,
            "working_directory": "/srv",
            "create_working_directory": False,
            "term_grace": "500ms",
            "allow_failure": True,
            "hold": True,
            "inputs": ["src/**/*.py", "{array_index}.csv"],
            "output_paths": ["parts/*", {"path": "extra/*", "optional": True, "fresh": "clear"}],
            "array": 200,
            "array_parallel": 20,
            "array_stop": True,
            "resources": {"cpus": 2.5, "memory": ["8GiB", "1.5GiB"], "gpus": 1, "licence": 2},
            "image": "python:3.12-slim",
            "mounts": ["/data:ro", "/scratch:/mnt/scratch"],
            "image_options": ["--ulimit", "nofile=4096:4096"],
            "image_pull": "always",
            "shell": ["/bin/sh", "-c"],
            "batch": {
                "share": "research",
                "priority": 10,
                "tags": {"team": "ml", "x-why": 1},
                "shm": "1GiB",
                "ephemeral_storage": "100GiB",
                "queue": "gpu-queue",
            },
        },
        {
            "job_id": "check",
            "command": "true",
            "timeout": "1m",
            "depends_on": ["train[]", "prepare"],
            "array": 200,
            "image": "",
        },
    ],
    "global_timeout": "8h",
    "on_failure": "continue",
    "result_s3_bucket": "spawn-results-us-east-1",
    "result_s3_prefix": "queues/nightly",
    "env": {"MODE": "test"},
    "secret_env": {"KEY": "secretsmanager:prod/db#password"},
    "working_directory": "/work",
    "create_working_directory": True,
    "max_failures": 5,
    "term_grace": "10s",
    "max_parallel_jobs": "fit",
    "pools": {"licence": 2, "gate": 1},
    "resources": {"cpus": 1},
    "image": "ubuntu@sha256:" + "0" * 64,
    "mounts": ["/refs:ro"],
    "image_options": ["--shm-size=1g"],
    "image_pull": "never",
    "shell": ["/bin/bash", "-euo", "pipefail", "-c"],
    "notify": [{"to": "ssm:/hook", "on": ["failed", "stuck"], "stuck_after": "1h"}],
}


def raw(jobs: Any = None, /, **queue: Any) -> bytes:
    """A document of these jobs, each over the smallest good one, and these fields."""
    body = [{**JOB, **job} for job in (jobs or [{}])]
    return json.dumps({**QUEUE, "jobs": body, **queue}).encode()


def errors_of(document: bytes) -> list[str]:
    with pytest.raises(DocumentError) as caught:
        parse_document(document)
    assert caught.value.exit_code is ExitCode.USAGE
    return list(caught.value.errors)


def test_reads_every_field() -> None:
    """A field of the contract would be refused or lost."""
    queue = parse_document(json.dumps(FULL).encode())
    assert queue == QueueSpec(
        queue_id="nightly-1",
        queue_name="Nächtlich",
        jobs=(
            JobSpec("prepare", "make 'data' # é 😀", 5400.0),
            JobSpec(
                "train",
                "python train.py",
                7200.0,
                depends_on=("prepare",),
                run_if="always",
                env={"SEED": "7"},
                secret_env={"TOKEN": "ssm:/train/token"},
                retry=RetrySpec(3, "fixed", 2.0, 60.0, (75, 255), (1,), ("exit", "signal")),
                result_paths=(ResultSpec("/tmp/models/*.pt"), ResultSpec("logs/**/*.log", True)),
                input_paths=(
                    InputSpec("s3://data-1/sets/{queue_id}/", "in/{job_id}/"),
                    InputSpec("s3://data-1/a {b c} {", "/srv/a"),
                ),
                inputs_in_timeout=True,
                keep_background=True,
                working_directory="/srv",
                create_working_directory=False,
                allow_failure=True,
                hold=True,
                inputs=("src/**/*.py", "{array_index}.csv"),
                term_grace=0.5,
                output_paths=(ResultSpec("parts/*"), ResultSpec("extra/*", True, "clear")),
                array=ArraySpec(200, 20, True),
                placement=Placement(
                    ResourceSpec(2.5, (8 << 30, 3 << 29), 1, (("licence", 2),)),
                    "python:3.12-slim",
                    ("/data:ro", "/scratch:/mnt/scratch"),
                    ("--ulimit", "nofile=4096:4096"),
                    "always",
                    ("/bin/sh", "-c"),
                    BatchSpec("research", 10, (("team", "ml"),), 1 << 30, 100 << 30, "gpu-queue"),
                ),
            ),
            JobSpec(
                "check",
                "true",
                60.0,
                depends_on=("train", "prepare"),
                array=ArraySpec(200, elementwise=("train",)),
                placement=Placement(image=""),
            ),
        ),
        global_timeout=28800.0,
        on_failure="continue",
        result_s3_bucket="spawn-results-us-east-1",
        result_s3_prefix="queues/nightly",
        env={"MODE": "test"},
        secret_env={"KEY": "secretsmanager:prod/db#password"},
        working_directory="/work",
        create_working_directory=True,
        max_failures=5,
        notify=(NotifySpec("ssm:/hook", ("failed", "stuck"), 3600.0),),
        term_grace=10.0,
        max_parallel_jobs="fit",
        pools=(("gate", 1), ("licence", 2)),
        placement=Placement(
            ResourceSpec(),
            "ubuntu@sha256:" + "0" * 64,
            ("/refs:ro",),
            ("--shm-size=1g",),
            "never",
            ("/bin/bash", "-euo", "pipefail", "-c"),
        ),
    )


def test_defaults_are_the_contracts() -> None:
    """A short document would not mean what the table says."""
    queue = parse_document(raw())
    assert queue == QueueSpec(None, "n", (JobSpec("a", "true", 60.0),), 3600.0, "stop")
    assert (queue.term_grace, queue.max_parallel_jobs, queue.env) == (30.0, 1, {})
    job = queue.jobs[0]
    assert (job.run_if, job.retry, job.keep_background) == ("success", None, False)
    assert job.placement is NO_PLACEMENT and queue.placed(job) is NO_PLACEMENT
    assert (queue.image(job), queue.shell(job)) == (None, ("/bin/bash", "-c"))
    assert not queue.counts_resources and queue.resources(job) == ResourceSpec(1.0)


def test_what_a_job_says_of_its_place_wins_over_the_queue() -> None:
    """A job would run in the queue's image, or with the queue's memory, against its own words."""
    queue = parse_document(
        raw(
            [{"image": "", "resources": {"gpus": 1}}, {"job_id": "b", "shell": ["/bin/sh", "-c"]}],
            image="i:1",
            resources={"cpus": 4, "memory": ["1GiB", "2GiB"]},
        )
    )
    first, second = queue.jobs
    assert (queue.image(first), queue.image(second)) == (None, "i:1")
    assert queue.resources(first) == ResourceSpec(1.0, (), 1)
    needed = queue.resources(second)
    assert [needed.memory_of(attempt) for attempt in (1, 2, 3)] == [1 << 30, 2 << 30, 2 << 30]
    assert queue.shell(second) == ("/bin/sh", "-c") and queue.counts_resources


@pytest.mark.parametrize(
    ("backoff", "base"),
    [(None, 1.0), ("exponential", 1.0), ("fixed", 5.0), ("exponential-jitter", 1.0)],
)
def test_base_delay_depends_on_the_backoff(backoff: str | None, base: float) -> None:
    """A fixed backoff would wait one second instead of the guide's five."""
    retry: dict[str, Any] = {"max_attempts": 2} | ({"backoff": backoff} if backoff else {})
    read = parse_document(raw([{"retry": retry}])).jobs[0].retry
    assert read is not None
    assert (read.base_delay, read.max_delay, read.retry_on_codes) == (base, 300.0, None)


def test_grace_is_the_jobs_or_the_queues() -> None:
    """A job that asks for a longer grace would be killed early."""
    queue = parse_document(raw([{"term_grace": "2m"}, {"job_id": "b"}], term_grace="5s"))
    assert [queue.grace(job) for job in queue.jobs] == [120.0, 5.0]
    assert grace(queue, queue.jobs[1]) == 5.0


def test_with_id() -> None:
    """A queue without an id would not get the one made for it."""
    queue = parse_document(raw())
    assert queue.with_id("q").queue_id == "q"
    assert queue.queue_id is None


QUEUE_ERRORS: list[tuple[dict[str, Any], str]] = [
    ({"queue_id": ""}, "queue_id: must not be empty"),
    ({"queue_id": "-a"}, 'queue_id: "-a" is not an id'),
    ({"queue_id": "a" * 129}, "is not an id"),
    ({"queue_id": "a\n"}, 'queue_id: "a\\u000a" is not an id'),
    ({"queue_id": 7}, "queue_id: must be a string, not a number"),
    ({"queue_name": None}, "queue_name: must be a string, not null"),
    ({"global_timeout": 90}, 'global_timeout: must be a duration in quotes such as "90s"'),
    ({"global_timeout": "1d"}, 'write "24h"'),
    ({"global_timeout": True}, "not true"),
    ({"on_failure": "contine"}, 'must be "stop" or "continue", not "contine"; did you mean'),
    ({"on_failure": []}, 'must be "stop" or "continue", not an array'),
    ({"result_s3_bucket": "My_Bucket"}, 'result_s3_bucket: "My_Bucket" is not a bucket\'s name'),
    ({"result_s3_bucket": "ab"}, "is not a bucket's name"),
    ({"result_s3_bucket": "a..b"}, "is not a bucket's name"),
    ({"result_s3_bucket": "10.0.0.1"}, "is not a bucket's name"),
    ({"result_s3_prefix": "/a"}, "result_s3_prefix: must not begin or end with '/'"),
    ({"result_s3_prefix": "a/"}, "must not begin or end with '/'"),
    ({"result_s3_prefix": "a//b"}, "must not hold '//'"),
    ({"result_s3_prefix": "a/../b"}, "must not hold '//'"),
    ({"result_s3_prefix": "é" * 300}, "is too long: 600 bytes"),
    ({"working_directory": ""}, "working_directory: must not be empty"),
    ({"term_grace": "0s"}, "longer than 0"),
    ({"max_parallel_jobs": 0}, "max_parallel_jobs: must be 1 to"),
    ({"max_parallel_jobs": True}, "must be a whole number, not true"),
    ({"max_parallel_jobs": 2.0}, "must be a whole number, not one with a point"),
    ({"max_parallel_jobs": "2"}, 'must be a whole number, not a string, or "fit"'),
    ({"max_parallel_jobs": "fits"}, "max_parallel_jobs: must be a whole number"),
    ({"pools": ["licence"]}, "pools: must be an object of names and numbers, not an array"),
    ({"pools": {"gpus": 1}}, "pools.gpus: is a resource of every machine, and not a pool"),
    ({"pools": {"1a": 1}}, 'pools["1a"]: is not the name of a pool'),
    ({"pools": {"licence": 0}}, "pools.licence: must be 1 to 1,000,000"),
    ({"resources": {"cpu": 1}}, 'of the queue\'s pools; did you mean "cpus"?'),
    ({"image": ""}, "image: must not be empty"),
    ({"image": "a b"}, 'image: "a b" is not the name of an image'),
    ({"mounts": "/data"}, "mounts: must be an array of mounts, not a string"),
    ({"image_options": ["--network=none"]}, '[0]: "--network" is set by the runner itself'),
    ({"image_pull": "newer"}, 'image_pull: must be "missing", "always" or "never"'),
    ({"max_failures": 2}, 'max_failures: needs "on_failure": "continue"'),
    ({"max_failures": 0}, "max_failures: must be 1 to "),
    ({"shell": "strct"}, 'shell: must be an array of strings, or "strict", not "strct"'),
    (
        {"resources": {"gpus": 1}, "env": {"CUDA_VISIBLE_DEVICES": "0"}},
        "resources.gpus: contradicts env.CUDA_VISIBLE_DEVICES of the queue",
    ),
    ({"env": []}, "env: must be an object of names and strings, not an array"),
    ({"env": {"1A": "x"}}, 'env["1A"]: is not a valid name'),
    ({"env": {"A-B": "x"}}, "env.A-B: is not a valid name"),
    ({"env": {"": "x"}}, 'env[""]: is not a valid name'),
    ({"env": {"JOB_ID": "x"}}, "env.JOB_ID: is set by the runner itself"),
    ({"env": {"RUNNER_X": "x"}}, "env.RUNNER_X: is set by the runner itself"),
    ({"env": {"A": 1}}, "env.A: must be a string, not a number"),
    ({"env": {"A": "x" * 131_071}}, "env.A: is too long: 131,073 bytes"),
    ({"env": {f"A{i}": "" for i in range(10_001)}}, "env: has too many names"),
    ({"secret_env": "ssm:a"}, "secret_env: must be an object of names and strings"),
    ({"secret_env": {"A-B": "ssm:a"}}, "secret_env.A-B: is not a valid name"),
    ({"secret_env": {"QUEUE_ID": "ssm:a"}}, "secret_env.QUEUE_ID: is set by the runner itself"),
    ({"secret_env": {"A": 1}}, "secret_env.A: must be a string, not a number"),
    ({"secret_env": {"A": "hf_abc"}}, "secret_env.A: must say where the secret is kept, ssm:NAME"),
    ({"secret_env": {"A": "ssm:"}}, "secret_env.A: must be ssm:NAME"),
    ({"secret_env": {"A": "ssm:/a b"}}, "secret_env.A: must be ssm:NAME"),
    ({"secret_env": {"A": "ssm:/a\n"}}, "secret_env.A: must be ssm:NAME"),
    ({"secret_env": {"A": "ssm:/a#k"}}, "secret_env.A: must be ssm:NAME"),
    ({"secret_env": {"A": "secretsmanager:#k"}}, "secret_env.A: must be secretsmanager:NAME"),
    ({"secret_env": {"A": "secretsmanager:a#"}}, "secret_env.A: must be secretsmanager:NAME"),
    ({"secret_env": {f"A{i}": "ssm:a" for i in range(101)}}, "secret_env: has too many names"),
    (
        {"env": {"A": "1"}, "secret_env": {"A": "ssm:a"}},
        "secret_env.A: is set by env, too: only one can stand",
    ),
    ({"jobs": []}, "jobs: must hold at least one job"),
    ({"jobs": {}}, "jobs: must be an array of jobs, not an object"),
    ({"jobs": [5]}, "jobs[0]: must be an object, not a number"),
    ({"que_name": "n"}, 'que_name: unknown key; did you mean "queue_name"?'),
    ({"zzz zzz": "n"}, '["zzz zzz"]: unknown key'),
]


@pytest.mark.parametrize(("change", "message"), QUEUE_ERRORS)
def test_rules_of_the_queues_fields(change: dict[str, Any], message: str) -> None:
    """A document that breaks this rule would be accepted, or refused without saying why."""
    (error,) = errors_of(raw(**change))
    assert message in error


JOB_ERRORS: list[tuple[dict[str, Any], str]] = [
    ({"job_id": "a/b"}, 'jobs[0].job_id: "a/b" is not an id'),
    *(
        ({"job_id": name}, f'jobs[0].job_id: "{name}" is the name of one of our own files')
        for name in ("queue-state.json", "queue.json", "report.html", "events", "control", "_setup")
    ),
    ({"job_id": "queue.json"}, "one of our own files"),
    ({"command": ""}, "jobs[0].command: must not be empty"),
    ({"command": "x" * 131_072}, "jobs[0].command: is too long: 131,072 bytes, at most 131,071"),
    ({"command": "é" * 65_536}, "jobs[0].command: is too long: 131,072 bytes"),
    ({"command": {}}, "jobs[0].command: must be a string, not an object"),
    ({"command": ["ls", 5]}, "jobs[0].command[1]: must be a string, not a number"),
    ({"command": []}, "jobs[0].command: must not be empty"),
    ({"timeout": None}, 'jobs[0].timeout: must be a duration in quotes such as "90s", not null'),
    ({"timeout": "1e3s"}, "jobs[0].timeout: "),
    ({"timeoutt": "5s"}, 'jobs[0].timeoutt: unknown key; did you mean "timeout"?'),
    ({"depends_on": "b"}, "jobs[0].depends_on: must be an array of job ids, not a string"),
    ({"depends_on": [1]}, "jobs[0].depends_on[0]: must be a string, not a number"),
    ({"run_if": "failed"}, 'jobs[0].run_if: must be "success", "failure" or "always"'),
    ({"run_if": "failure"}, 'jobs[0].run_if: "failure" needs depends_on'),
    ({"run_if": "always", "depends_on": []}, 'jobs[0].run_if: "always" needs depends_on'),
    ({"env": {"A": None}}, "jobs[0].env.A: must be a string, not null"),
    ({"secret_env": {"A": "vault:a"}}, "jobs[0].secret_env.A: must say where"),
    ({"env": {"A": ""}, "secret_env": {"A": "ssm:a"}}, "jobs[0].secret_env.A: is set by env, too"),
    ({"retry": 3}, "jobs[0].retry: must be an object, not a number"),
    ({"retry": {}}, "jobs[0].retry.max_attempts: is required, but missing"),
    ({"retry": {"max_attempts": 2, "retry_on": []}}, "jobs[0].retry.retry_on: must hold at least"),
    (
        {"retry": {"max_attempts": 2, "retry_on": ["exits"]}},
        'retry_on[0]: must be "exit", "timeout"',
    ),
    ({"retry": {"max_attempts": 0}}, "jobs[0].retry.max_attempts: must be 1 to 100"),
    ({"retry": {"max_attempts": 101}}, "jobs[0].retry.max_attempts: must be 1 to 100"),
    ({"retry": {"max_attempts": 10**30}}, "jobs[0].retry.max_attempts: must be 1 to 100"),
    ({"retry": {"max_attempts": 1, "max_atempts": 1}}, 'did you mean "max_attempts"?'),
    ({"retry": {"max_attempts": 1, "backoff": "linear"}}, "jobs[0].retry.backoff: "),
    ({"retry": {"max_attempts": 1, "base_delay": 1}}, "jobs[0].retry.base_delay: "),
    (
        {"retry": {"max_attempts": 1, "retry_on_codes": [256]}},
        "retry_on_codes[0]: must be 1 to 255",
    ),
    ({"retry": {"max_attempts": 1, "retry_on_codes": [1, 0]}}, "jobs[0].retry.retry_on_codes[1]"),
    ({"result_paths": [""]}, "jobs[0].result_paths[0]: must not be empty"),
    ({"result_paths": [7]}, 'result_paths[0]: must be a string or an object with "path", "opt'),
    ({"result_paths": [{"optional": True}]}, "result_paths[0].path: is required, but missing"),
    ({"result_paths": [{"path": "a", "optional": 1}]}, "[0].optional: must be true or false, not"),
    (
        {"result_paths": [{"path": "a", "fresh": "new"}]},
        'jobs[0].result_paths[0].fresh: must be "keep", "check" or "clear", not "new"',
    ),
    ({"result_paths": [{"path": "a", "option": True}]}, 'unknown key; did you mean "optional"?'),
    ({"result_paths": ["a", "~/m.pt"]}, 'result_paths[1]: "~/m.pt": a leading ~ is not expanded'),
    ({"result_paths": [{"path": "~ann/m"}]}, "result_paths[0].path: "),
    ({"result_paths": ["/o/$RUN_ID/m"]}, '"$RUN_ID" is not expanded: give the path itself'),
    ({"result_paths": ["/o/${RUN_ID:-x}/m"]}, '"${RUN_ID:-x}" is not expanded'),
    ({"result_paths": ["log-$(date).txt"]}, '"$(date)" is not expanded'),
    ({"result_paths": ["o/{train,test}/*.csv"]}, '"{train,test}" is not expanded: give one path'),
    ({"result_paths": ["part-{1..9}.csv"]}, '"{1..9}" is not expanded'),
    ({"result_paths": ["out/*/../m"]}, "\"out/*/../m\" has a '..' after a wildcard"),
    ({"result_paths": ["//."]}, '"//." is the root folder'),
    ({"checkpoint_paths": ["~/ckpt/**"]}, "checkpoint_paths[0]: "),
    ({"checkpoint_paths": ["$SCRATCH/**"]}, '"$SCRATCH" is not expanded'),
    ({"checkpoint_paths": ["{a,b}.ckpt"]}, '"{a,b}" is not expanded'),
    ({"checkpoint_paths": [{"path": "a"}]}, "checkpoint_paths[0]: must be a string, not an object"),
    ({"input_paths": {}}, 'input_paths: must be an array of objects with "s3" and "path", not an'),
    ({"input_paths": ["s3://bkt/k"]}, "jobs[0].input_paths[0]: must be an object, not a string"),
    (
        {"input_paths": [{"s3": "s3://bkt/k", "path": "p"}, {"path": "p"}]},
        "jobs[0].input_paths[1].s3: is required, but missing",
    ),
    (
        {"input_paths": [{"s3": "s3://bkt/k", "path": "p", "pth": 1}]},
        'jobs[0].input_paths[0].pth: unknown key; did you mean "path"?',
    ),
    ({"input_paths": [{"s3": "/bkt/k", "path": "p"}]}, "input_paths[0].s3: must begin with s3://"),
    ({"input_paths": [{"s3": "S3://bkt/k", "path": "p"}]}, "must begin with s3://"),
    ({"input_paths": [{"s3": "s3://B/k", "path": "p"}]}, 'the bucket "B" is not a bucket\'s name'),
    ({"input_paths": [{"s3": "s3://bkt", "path": "p/"}]}, "s3://bkt/ is the whole bucket"),
    ({"input_paths": [{"s3": "s3://bkt/" + "é" * 513, "path": "p"}]}, "too long: 1,026 bytes"),
    (
        {"input_paths": [{"s3": "s3://bkt/{job}", "path": "p"}]},
        '[0].s3: "{job}" can\'t be filled in: only "{queue_id}", "{job_id}" or "{array_index}" can',
    ),
    ({"input_paths": [{"s3": "s3://bkt/k", "path": "{{x}}"}]}, '.path: "{x}" can\'t be filled in'),
    (
        {"input_paths": [{"s3": "s3://bkt/", "path": "p"}]},
        "[0].path: must end with '/': the keys below a prefix go into a folder",
    ),
    ({"input_paths": [{"s3": "s3://bkt/k", "path": ""}]}, "[0].path: must not be empty"),
    ({"inputs_in_timeout": 1}, "jobs[0].inputs_in_timeout: must be true or false, not a number"),
    ({"keep_background": 1}, "jobs[0].keep_background: must be true or false, not a number"),
    ({"output_paths": ["~/a"]}, "jobs[0].output_paths[0]: "),
    ({"array": 0}, "jobs[0].array: must be 1 to 10,000"),
    ({"array": 10_001}, "jobs[0].array: must be 1 to 10,000"),
    ({"array": "10"}, "jobs[0].array: must be a whole number, not a string"),
    ({"array": 0, "array_parallel": 2}, "jobs[0].array: must be 1 to"),
    ({"array_parallel": 2}, 'jobs[0].array_parallel: needs "array": it is about the elements'),
    ({"array_stop": True}, 'jobs[0].array_stop: needs "array"'),
    ({"array": 2, "array_parallel": 0}, "jobs[0].array_parallel: must be 1 to 10,000"),
    ({"array": 2, "array_stop": 1}, "jobs[0].array_stop: must be true or false"),
    ({"depends_on": ["b[3]"]}, '"b[3]" is one element: write "b", all of it, or "b[]", each'),
    ({"depends_on": ["b[x]"]}, '"b[x]" is not an id'),
    ({"job_id": "x[3]"}, 'jobs[0].job_id: "x[3]" is not an id'),
    ({"job_id": "x[]"}, 'jobs[0].job_id: "x[]" is not an id'),
    ({"resources": 4}, "jobs[0].resources: must be an object, not a number"),
    ({"resources": {"cpus": 0}}, "jobs[0].resources.cpus: must be 0.25 to 4,096, in steps of 0.25"),
    ({"resources": {"cpus": 0.3}}, "jobs[0].resources.cpus: must be 0.25 to"),
    ({"resources": {"cpus": 10**30}}, "jobs[0].resources.cpus: must be 0.25 to"),
    ({"resources": {"cpus": "2"}}, "jobs[0].resources.cpus: must be a number, not a string"),
    ({"resources": {"memory": 16}}, 'memory: must be a size in quotes such as "16GiB", not a num'),
    ({"resources": {"memory": "16GB"}}, 'memory: "16GB" is not a size such as "512MiB" or "16GiB"'),
    ({"resources": {"memory": "16G"}}, '; write "16GiB"'),
    ({"resources": {"memory": "0GiB"}}, '"0GiB" must be above 0 and at most 1024TiB'),
    ({"resources": {"memory": "1025TiB"}}, "must be above 0 and at most 1024TiB"),
    ({"resources": {"memory": "0.0001KiB"}}, '"0.0001KiB" is not a whole number of KiB'),
    ({"resources": {"memory": []}}, "jobs[0].resources.memory: must hold 1 to 100 sizes"),
    ({"resources": {"memory": ["8GiB", 9]}}, "jobs[0].resources.memory[1]: must be a size"),
    ({"resources": {"gpus": -1}}, "jobs[0].resources.gpus: must be 0 to 1,024"),
    ({"resources": {"gpus": 0.5}}, "jobs[0].resources.gpus: must be a whole number"),
    ({"resources": {"licence": "2"}}, "jobs[0].resources.licence: must be a whole number"),
    ({"resources": {"licence": 1}}, "jobs[0].resources.licence: unknown key, and none of the que"),
    ({"resources": {"a b": 1}}, 'jobs[0].resources["a b"]: is not the name of a pool'),
    (
        {"resources": {"gpus": 1}, "env": {"ROCR_VISIBLE_DEVICES": ""}},
        "jobs[0].resources.gpus: contradicts env.ROCR_VISIBLE_DEVICES of the job",
    ),
    ({"image": "-v"}, 'jobs[0].image: "-v" is not the name of an image'),
    ({"mounts": ["data"]}, 'jobs[0].mounts[0]: "data" is not a mount: "/data", "/data:ro"'),
    ({"mounts": ["/a:/b:/c"]}, "jobs[0].mounts[0]: "),
    ({"image_options": ["-v/:/host"]}, '[0]: "-v/:/host" is set by the runner itself'),
    ({"image_options": ["--gpus"]}, 'image_options[0]: "--gpus" is set by the runner itself'),
    ({"image_pull": True}, 'jobs[0].image_pull: must be "missing"'),
    ({"shell": []}, "jobs[0].shell: must hold 1 to 32 strings: a program, and its arguments"),
    (
        {"shell": ["sh", "-c"]},
        'shell[0]: must be the whole path of a program, as /bin/sh, not "sh"',
    ),
    ({"batch": []}, "jobs[0].batch: must be an object, not an array"),
    ({"batch": {"shares": "a"}}, 'jobs[0].batch.shares: unknown key; did you mean "share"?'),
    ({"batch": {"share": "a b"}}, 'batch.share: "a b" is not a share: at most 255 letters and dig'),
    ({"batch": {"priority": 10_000}}, "jobs[0].batch.priority: must be 0 to 9,999"),
    ({"batch": {"tags": {f"t{n}": "" for n in range(51)}}}, "has too many tags: 51, at most 50"),
    ({"batch": {"tags": {"aws:a": ""}}}, 'batch.tags["aws:a"]: begins with "aws:"'),
    ({"batch": {"tags": {"a": 1}}}, "jobs[0].batch.tags.a: must be a string, not a number"),
    ({"batch": {"tags": {"a": "x" * 257}}}, "a tag's name has 1 to 128 characters, its value at"),
    ({"batch": {"shm": "1KiB"}}, "jobs[0].batch.shm: must be a whole number of MiB"),
    ({"batch": {"ephemeral_storage": "20GiB"}}, "batch.ephemeral_storage: must be 21GiB to 200GiB"),
    ({"batch": {"queue": "a/b"}}, 'batch.queue: "a/b" is not the name or ARN of a job queue'),
    ({"working_directory": 1}, "jobs[0].working_directory: must be a string"),
    ({"term_grace": "1w"}, 'jobs[0].term_grace: "1w" is not a duration'),
]


@pytest.mark.parametrize(("change", "message"), JOB_ERRORS)
def test_rules_of_a_jobs_fields(change: dict[str, Any], message: str) -> None:
    """A job that breaks this rule would be accepted, or refused without saying why."""
    (error,) = errors_of(raw([change]))
    assert message in error


def test_a_command_may_fill_its_limit_exactly() -> None:
    """The longest command that Linux takes would be refused."""
    assert len(parse_document(raw([{"command": "x" * 131_071}])).jobs[0].command) == 131_071


def test_all_errors_come_at_once_in_order() -> None:
    """The user would meet a second error after the first was mended."""
    document = raw(
        [{"timeout": 5}, {"job_id": "b", "depends_on": ["c"], "retry": {"max_attempts": 0}}],
        on_failure="halt",
        colour="red",
    )
    assert [line.partition(": ")[0] for line in errors_of(document)] == [
        "jobs[0].timeout",
        "jobs[1].retry.max_attempts",
        "on_failure",
        "colour",
        "jobs[1].depends_on[0]",
    ]


def test_all_errors_of_inputs_come_at_once() -> None:
    """A job with ten inputs would have to be mended ten times."""
    inputs = [{"s3": "x", "path": ""}, {"s3": "s3://bkt/a/", "path": "b", "c": 1}, 5]
    assert [line.partition(": ")[0] for line in errors_of(raw([{"input_paths": inputs}]))] == [
        "jobs[0].input_paths[0].s3",
        "jobs[0].input_paths[0].path",
        "jobs[0].input_paths[1].c",
        "jobs[0].input_paths[1].path",
        "jobs[0].input_paths[2]",
    ]


def test_everything_missing_is_named() -> None:
    """An empty document would name only the first field it lacks."""
    assert errors_of(b'{"jobs": [{}]}') == [
        "jobs[0].command: is required, but missing",
        "jobs[0].job_id: is required, but missing",
        "jobs[0].timeout: is required, but missing",
        "global_timeout: is required, but missing",
        "on_failure: is required, but missing",
        "queue_name: is required, but missing",
    ]


def test_a_hundred_errors_are_told_and_the_rest_counted() -> None:
    """A document of 100,000 wrong jobs would fill the terminal."""
    errors = errors_of(raw([{"job_id": f"j{i}", "timeout": 5} for i in range(250)]))
    assert len(errors) == 101
    assert errors[-1] == "… and 150 more errors"


TEXT_ERRORS: list[tuple[bytes, str]] = [
    (b"", "line 1, column 1: the document is empty"),
    (b" \n ", "line 2, column 2: the document is empty"),
    (b"[]", "line 1, column 1: must be an object, not an array"),
    (b"NaN", "line 1, column 1: must be an object, not a number"),
    (b"{", "line 1, column 2: expecting a key"),
    (b'{"a" 1}', "line 1, column 6: expecting ':'"),
    (b'{"a":}', "line 1, column 6: expecting a value"),
    (b'{"a": 1,}', "line 1, column 9: JSON has no comma before '}'"),
    (b'{"a": 1,', "line 1, column 9: expecting a key in double quotes"),
    (b"{'a': 1}", "line 1, column 2: a string is in double quotes, not in single ones"),
    (b'{"a": 1, # note\n"b": 2}', "line 1, column 10: JSON has no comments: a key that begins"),
    (b'{"jobs": [\n/* none */]}', "line 2, column 1: JSON has no comments"),
    (b"queue_id: x\njobs: []\n", "line 1, column 1: this looks like YAML"),
    (b"---\n- a\n", "line 1, column 1: this looks like YAML"),
    (b'{"a": 1\n "b": 2}', "line 2, column 2: expecting ',' or '}'"),
    (b'{"jobs": [{} {}]}', "line 1, column 14: expecting ',' or ']'"),
    (b'{"jobs": [{},]}', "line 1, column 14: JSON has no comma before ']'"),
    (b'{"jobs": [', "line 1, column 11: expecting a value"),
    (b'{"jobs": [{"a": 01}]}', "line 1, column 18: expecting ',' delimiter"),
    (b"{} {}", "line 1, column 4: the document ends here, but more text follows"),
    (b'{"a": "\0"}', "line 1, column 8: invalid control character"),
    (b"// note\n{}", "line 1, column 1: JSON has no comments"),
    (b"\xef\xbb\xbf{}", "document: begins with a byte order mark"),
    (b"\xff\xfe{\0}\0", "document: is UTF-16"),
    (b'{\n"a": "\xe9"}', "document: line 2, byte 8: is not UTF-8"),
    (b"x" * (64 * 1024 * 1024 + 1), "document: too large"),
]


@pytest.mark.parametrize(("document", "message"), TEXT_ERRORS, ids=range(len(TEXT_ERRORS)))
def test_text_that_is_no_json_object(document: bytes, message: str) -> None:
    """A slip in the JSON would not be shown where it is."""
    (error,) = errors_of(document)
    assert error.startswith(message)


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ('"true"', '"a\\u0000b"', "jobs[0].command: must not hold a NUL character"),
        ('"true"', '"a\\ud800"', "jobs[0].command: character 2 is a lone surrogate (\\ud800)"),
        ('"n"', '"\\udfff"', "queue_name: character 1 is a lone surrogate (\\udfff)"),
        ('"n"', "NaN", "queue_name: NaN is not JSON"),
        ('"1m"', "-Infinity", "jobs[0].timeout: -Infinity is not JSON"),
        ('"1m"', '"1m", "timeout": "2m"', "jobs[0].timeout: is given twice"),
        ('"n"', '"n", "queue_name": "m"', "queue_name: is given twice"),
        ('"1m"', '"1m", "x-a": {"b": [1, NaN]}', "jobs[0].x-a.b[1]: NaN is not JSON"),
        ('"1m"', '"1m", "env": {"A": "", "A": ""}', "jobs[0].env.A: is given twice"),
        ('"1m"', '"1m", "env": {"A": "\\u0000"}', "jobs[0].env.A: must not hold a NUL"),
        ('"1m"', '"1m", "result_paths": ["a", "\\u0000"]', "jobs[0].result_paths[1]: must not"),
        ('"1m"', '"1m", "x-a": 1, "x-a": 2', "jobs[0].x-a: is given twice"),
    ],
)
def test_what_json_lets_through(old: str, new: str, error: str) -> None:
    """A value that can't be run, stored or sent would be accepted."""
    (found,) = errors_of(raw().decode().replace(old, new, 1).encode())
    assert found.startswith(error)


def test_ignored_keys_may_hold_anything_json() -> None:
    """A note of another program would make a document invalid, or differ."""
    note = '"x-n": {"timeout": 5, "a": "\\u0000\\ud800", "b": {"c": 1, "c": 2}}, "$schema": [1],'
    noted = raw([{"env": {"x-e": 1}}]).decode().replace('{"', f'{{{note} "')
    assert parse_document(noted.encode()) == parse_document(raw())


def test_a_pair_of_surrogates_is_a_character() -> None:
    """An emoji written by json.dumps would be refused."""
    assert b"\\ud83d\\ude00" in raw(queue_name="😀")
    assert parse_document(raw(queue_name="😀")).queue_name == "😀"


def test_values_of_env_are_never_shown() -> None:
    """A secret would stand in an error message, a log or a traceback."""
    env = {
        "A": "hunter2",
        "JOB_ID": "hunter2",
        "a b": "hunter2",
        "B": "hunter2\0",
        "C": ["hunter2"],
    }
    assert "hunter2" not in "\n".join(errors_of(raw([{"env": env}], env=env)))
    mistaken = raw([{"secret_env": env}], secret_env={"A": "ssm:hunter2!", "B": "hunter2"})
    assert "hunter2" not in "\n".join(errors_of(mistaken))
    good = parse_document(raw([{"env": {"A": "hunter2"}}], env={"A": "hunter2"}))
    assert "hunter2" not in repr(good)


def test_errors_are_printable_and_short() -> None:
    """A document could write escape sequences to the terminal, or fill it with one line."""
    odd = "\x1b[31m\u202e\n" + "x" * 10_000
    document = raw([{"job_id": odd, "run_if": odd, odd: 1, "env": {odd: ""}, "timeout": odd}])
    for error in errors_of(document):
        assert error.isprintable() and len(error) < 300


ARN = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:prod/db-AbCdEf"
REFERENCES: list[tuple[str, SecretReference]] = [
    ("ssm:/a/b", SecretReference("ssm", "/a/b")),
    ("ssm:plain.name:3", SecretReference("ssm", "plain.name:3")),
    (
        "ssm:arn:aws-cn:ssm:cn-north-1:123456789012:parameter/a/b",
        SecretReference(
            "ssm", "arn:aws-cn:ssm:cn-north-1:123456789012:parameter/a/b", region="cn-north-1"
        ),
    ),
    ("secretsmanager:prod/db", SecretReference("secretsmanager", "prod/db")),
    ("secretsmanager:a@b=c#k#l m", SecretReference("secretsmanager", "a@b=c", "k#l m")),
    (f"secretsmanager:{ARN}#user", SecretReference("secretsmanager", ARN, "user", "eu-west-1")),
]


@pytest.mark.parametrize(("text", "reference"), REFERENCES)
def test_references_say_where_a_secret_is(text: str, reference: SecretReference) -> None:
    """A secret would be looked for in another region, or under another name."""
    assert parse_reference(text) == reference
    document = raw([{"secret_env": {"A": text}}])
    assert parse_document(document).jobs[0].secret_env == {"A": text}
    assert not list(SCHEMA.iter_errors(json.loads(document)))


def test_what_a_job_sets_wins_over_the_queues_secrets() -> None:
    """A job would get the queue's secret in the place of its own value."""
    queue = parse_document(
        raw(
            [{"env": {"A": "plain"}, "secret_env": {"B": "ssm:own"}}, {"job_id": "b"}],
            secret_env={"A": "ssm:a", "B": "ssm:b", "C": "ssm:c"},
            env={"D": "plain"},
        )
    )
    first, second = queue.jobs
    assert queue.secrets(first) == {"B": "ssm:own", "C": "ssm:c"}
    assert queue.secrets(second) == {"A": "ssm:a", "B": "ssm:b", "C": "ssm:c"}


GRAPH_ERRORS: list[tuple[list[dict[str, Any]], list[str]]] = [
    (
        [{"job_id": "prepare"}, {"job_id": "c", "depends_on": ["prepar"]}],
        ['jobs[1].depends_on[0]: there is no job "prepar"; did you mean "prepare"? (job "c")'],
    ),
    (
        [{"job_id": "b"}, {"depends_on": ["b", "b"]}],
        ['jobs[1].depends_on[1]: "b" is named twice (job "a")'],
    ),
    ([{}, {"job_id": "b"}, {}], ['jobs[2].job_id: "a" is also the id of jobs[0]']),
    ([{"depends_on": ["a"]}], ["jobs[0].depends_on: cycle: a → a"]),
    (
        [{"job_id": "b"}, {"depends_on": ["b[]"], "array": 2}],
        [
            'jobs[1].depends_on[0]: "b[]" goes from element to element, and "b" is not an array '
            '(job "a")'
        ],
    ),
    (
        [{"job_id": "b", "array": 3}, {"depends_on": ["b[]"], "array": 2}],
        ['jobs[1].depends_on[0]: "b[]": "b" has 3 elements, and this job 2 (job "a")'],
    ),
    (
        [{"job_id": "b", "array": 3}, {"depends_on": ["b[]"]}],
        [
            'jobs[1].depends_on[0]: "b[]" needs "array" on this job, too; "b" waits for all of it '
            '(job "a")'
        ],
    ),
    (
        [{"job_id": "b", "array": 3}, {"depends_on": ["b[]", "b"], "array": 3}],
        ['jobs[1].depends_on[1]: "b" is named twice (job "a")'],
    ),
    (
        [{"job_id": "bee", "array": 3}, {"depends_on": ["be[]"], "array": 3}],
        ['jobs[1].depends_on[0]: there is no job "be"; did you mean "bee"? (job "a")'],
    ),
    (
        [{"depends_on": ["b[]"], "array": 2}, {"job_id": "b", "depends_on": ["a[]"], "array": 2}],
        ["jobs[0].depends_on: cycle: a → b → a"],
    ),
    ([{"depends_on": ["a[]"], "array": 2}], ["jobs[0].depends_on: cycle: a → a"]),
    (
        [{"array": 0}, {"job_id": "b", "depends_on": ["a[]"], "array": 2}],
        ['jobs[0].array: must be 1 to 10,000 (job "a")'],
    ),
    (
        [{"job_id": "x"}, {"depends_on": ["b"]}, {"job_id": "b", "depends_on": ["x", "a"]}],
        ["jobs[1].depends_on: cycle: a → b → a"],
    ),
]


POOL_ERRORS: list[tuple[dict[str, Any], dict[str, Any], list[str]]] = [
    (
        {"resources": {"licenc": 1}},
        {"pools": {"licence": 2}},
        [
            "jobs[0].resources.licenc: unknown key, and none of the queue's pools; did you mean "
            '"licence"? (job "a")'
        ],
    ),
    (
        {"resources": {"licence": 3}},
        {"pools": {"licence": 2}},
        ['jobs[0].resources.licence: 3 are more than there are: the pool has 2 (job "a")'],
    ),
    (
        {"resources": {"licence": 3}},
        {"pools": {"licence": "2"}},
        ["pools.licence: must be a whole number, not a string"],
    ),
    (
        {"env": {"CUDA_VISIBLE_DEVICES": "0"}},
        {"resources": {"gpus": 0}},
        [
            "jobs[0].resources.gpus: contradicts env.CUDA_VISIBLE_DEVICES of the job: leave one of "
            'them out (with gpus the runner sets the variable) (job "a")'
        ],
    ),
]


@pytest.mark.parametrize(("job", "queue", "errors"), POOL_ERRORS)
def test_rules_between_a_job_and_its_queue(
    job: dict[str, Any], queue: dict[str, Any], errors: list[str]
) -> None:
    """A job would wait for ever for what there is not, or be told two things about its devices."""
    assert errors_of(raw([job], **queue)) == errors


@pytest.mark.parametrize(("jobs", "errors"), GRAPH_ERRORS)
def test_rules_between_jobs(jobs: list[dict[str, Any]], errors: list[str]) -> None:
    """A queue that can never end would be started."""
    assert errors_of(raw(jobs)) == errors


def test_an_error_names_its_job() -> None:
    """Somebody would have to count to the eighteenth job of a document."""
    jobs = [{"job_id": f"j{n}"} for n in range(19)]
    jobs[17] = {"job_id": "train", "timeout": "3 hours"}
    (error,) = errors_of(raw(jobs))
    assert error.startswith('jobs[17].timeout: "3 hours" is not') and error.endswith(
        '(job "train")'
    )
    (error,) = errors_of(raw([{"job_id": "no/id", "timeout": 5}]))[1:]
    assert "(job" not in error


def test_a_job_of_an_old_queue_may_have_a_name_that_is_ours_now() -> None:
    """A queue that was accepted before could not be resumed."""
    assert parse_stored(raw([{"job_id": "events"}])).jobs[0].job_id == "events"
    with pytest.raises(DocumentError):
        parse_stored(raw([{"job_id": "queue.json"}]))


def test_an_error_of_syntax_names_its_file(tmp_path: Path) -> None:
    """Of two documents nobody would know which one is broken."""
    path = tmp_path / "night.json"
    path.write_text('{"a": }')
    with pytest.raises(DocumentError, match=r"night\.json: line 1, column 7: expecting a value"):
        read_document(path)


def test_a_broken_job_is_still_a_dependency() -> None:
    """One wrong timeout would bring an error for each job that waits for it."""
    jobs = [{"timeout": 5}, {"job_id": "b", "depends_on": ["a"]}]
    assert len(errors_of(raw(jobs))) == 1


@pytest.mark.parametrize(("count", "end"), [(19, "j18 → j0"), (20, "j19 → … (1 more)")])
def test_a_long_cycle_is_cut_after_twenty_names(count: int, end: str) -> None:
    """A cycle of thousands of jobs would fill the terminal."""
    jobs = [{"job_id": f"j{i}", "depends_on": [f"j{(i + 1) % count}"]} for i in range(count)]
    (error,) = errors_of(raw(jobs))
    assert error.startswith("jobs[0].depends_on: cycle: j0 → j1 → ") and error.endswith(end)


HOSTILE: list[tuple[bytes, str]] = [
    (b"[" * 1_000_000, "line 1, column 1: what begins here is nested too deeply"),
    (b'{"a":' * 1_000_000, "nested too deeply"),
    (b'{"jobs":[{"env":' + b"[" * 1_000_000, "line 1, column 10: what begins here is nested"),
    (b'{"max_parallel_jobs":' + b"9" * 1_000_000 + b"}", "max_parallel_jobs: must be 1 to"),
    (b'{"max_parallel_jobs":-' + b"9" * 5_000 + b"}", "max_parallel_jobs: must be 1 to"),
    (b'{"max_parallel_jobs":1e999}', "max_parallel_jobs: must be a whole number"),
    (b'{"jobs":[' + b"1," * 2_000_000 + b"1]}", "jobs[0]: must be an object"),
    (b'{"queue_name":[' + b"NaN," * 500_000 + b"1]}", "queue_name[0]: NaN is not JSON"),
    (b'{"' + b'a":1,"' * 100_000 + b'":1}', "a: is given twice"),
    (b"{" + b",".join(b'"k%d":1' % i for i in range(100_000)) + b"}", "line 1, column"),
]


@pytest.mark.parametrize(("document", "message"), HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_documents_end_soon(document: bytes, message: str) -> None:
    """A document could take the process down, or keep it busy for minutes."""
    started = time.process_time()
    errors = errors_of(document)
    assert time.process_time() - started < 5
    assert message in errors[0] and len(errors) <= 101


def test_ten_thousand_jobs_take_a_moment() -> None:
    """A queue of 100,000 jobs would take longer than the first job may wait."""
    jobs = [{"job_id": f"j{i}", "depends_on": [f"j{i - 1}"] if i else []} for i in range(10_000)]
    document = raw(jobs)
    started = time.perf_counter()
    assert len(parse_document(document).jobs) == 10_000
    assert time.perf_counter() - started < 2


def test_equal_parts_are_shared() -> None:
    """100,000 jobs would take several times the memory."""
    job = {
        "retry": {"max_attempts": 3},
        "env": {"SOME_NAME": "1"},
        "secret_env": {"TOKEN": "ssm:/token"},
        "input_paths": [{"s3": "s3://bkt/k", "path": "p"}],
        "result_paths": [{"path": "r", "optional": True}],
        "resources": {"cpus": 2},
        "image": "i:1",
        "array": 7,
    }
    first, second = parse_document(
        raw([{**job, "job_id": "first"}, {**job, "depends_on": ["first"]}])
    ).jobs
    assert second.depends_on[0] is first.job_id
    assert second.retry is first.retry
    assert second.input_paths[0] is first.input_paths[0]
    assert second.result_paths[0] is first.result_paths[0]
    assert next(iter(second.env)) is next(iter(first.env))
    assert second.secret_env["TOKEN"] is first.secret_env["TOKEN"]
    assert second.timeout is first.timeout
    assert second.placement is first.placement and second.array is first.array


@pytest.mark.parametrize(
    "path",
    [
        "a~",
        "./~b",
        "[~]c",
        "cost-$5",
        "a$",
        "[$]HOME/d",
        "{}",
        "{a}",
        "{a,b",
        "[{]a,b}",
        "x}{y",
        "../a/*",
        "a[b/..",
    ],
)
def test_names_that_no_shell_would_expand_are_globs(path: str) -> None:
    """A file that is really called so could not be declared."""
    document = raw([{"result_paths": [path], "checkpoint_paths": [path]}])
    assert parse_document(document).jobs[0].result_paths == (ResultSpec(path),)
    assert not list(SCHEMA.iter_errors(json.loads(document)))


def test_a_document_that_was_accepted_before_is_read() -> None:
    """A queue that an earlier version took would be unreadable after an upgrade."""
    old = raw([{"result_paths": ["~/a", "{a,b}"], "checkpoint_paths": ["$X/**"]}])
    assert errors_of(old)
    assert parse_stored(raw([{"run_if": "failure"}])).jobs[0].run_if == "failure"
    (job,) = parse_stored(old).jobs
    assert job.result_paths == (ResultSpec("~/a"), ResultSpec("{a,b}"))
    assert job.checkpoint_paths == ("$X/**",)
    with pytest.raises(DocumentError, match="must not be empty"):
        parse_stored(raw([{"result_paths": [""]}]))


def test_a_required_result_is_stored_as_before() -> None:
    """Documents that were stored by an earlier version would differ from the same ones now."""
    given = [{"path": "a"}, "b", {"path": "c", "optional": True, "x-why": 1}]
    given += [{"path": "d", "fresh": "keep"}, {"path": "e", "fresh": "check"}]
    queue = parse_document(raw([{"result_paths": given}]))
    dumped = json.loads(dump_document(queue))["jobs"][0]["result_paths"]
    new = {"path": "e", "fresh": "check"}
    assert dumped == ["a", "b", {"path": "c", "optional": True}, "d", new]


def test_dump_reads_back_equal() -> None:
    """A stored queue would not be the one that was submitted."""
    queue = parse_document(json.dumps(FULL).encode())
    text = dump_document(queue)
    assert parse_document(text.encode()) == queue
    assert "x-" not in text and "$schema" not in text


def test_dump_is_canonical() -> None:
    """The same document twice would be two queues."""
    one = parse_document(raw([{"env": {"A": "1", "B": "2"}, "run_if": "success"}]))
    said = {"shell": ["/bin/bash", "-c"], "image_pull": "missing", "mounts": [], "pools": {}}
    two = parse_document(
        raw([{"env": {"B": "2", "A": "1"}, "timeout": "60s"}], term_grace="30s", **said)
    )
    assert dump_document(one) == dump_document(two)
    sizes = [["1GiB", "2048MiB", "2GiB"], ["1.0GiB", "2GiB"]]
    some = [raw([{"resources": {"memory": memory, "cpus": 1.0}}]) for memory in sizes]
    assert len({dump_document(parse_document(each)) for each in some}) == 1
    assert json.loads(dump_document(two))["jobs"][0]["timeout"] == "1m0s"


DIFFERENCES: list[tuple[bytes, bytes, str | None]] = [
    (raw(), raw([{"x-a": 1}]), None),
    (raw(), raw(global_timeout="2h"), "global_timeout: 1h0m0s is now 2h0m0s"),
    (raw(), raw(queue_name="m"), 'queue_name: "n" is now "m"'),
    (raw(), raw(result_s3_bucket="abc"), 'result_s3_bucket: not set is now "abc"'),
    (raw(), raw([{"timeout": "2h"}]), "jobs[0].timeout: 1m0s is now 2h0m0s"),
    (raw(), raw([{"term_grace": "5s"}]), "jobs[0].term_grace: not set is now 5s"),
    (raw(), raw([{"command": "false"}]), "jobs[0].command differs"),
    (raw(), raw([{"keep_background": True}]), "jobs[0].keep_background: false is now true"),
    (raw([{"env": {"TOKEN": "s3"}}]), raw([{"env": {"TOKEN": "s4"}}]), "jobs[0].env.TOKEN differs"),
    (raw(env={"TOKEN": "s3"}), raw(), "env.TOKEN was removed"),
    (raw(), raw([{"env": {"TOKEN": "s3"}}]), "jobs[0].env.TOKEN was added"),
    (
        raw(secret_env={"TOKEN": "ssm:a"}),
        raw(secret_env={"TOKEN": "ssm:b"}),
        "secret_env.TOKEN differs",
    ),
    (raw(), raw([{"retry": {"max_attempts": 3}}]), "jobs[0].retry: not set is now 3 attempts"),
    (
        raw([{"retry": {"max_attempts": 3}}]),
        raw([{"retry": {"max_attempts": 3, "max_delay": "1s"}}]),
        "jobs[0].retry.max_delay: 5m0s is now 1s",
    ),
    (raw(), raw([{"job_id": "b"}, {}]), 'jobs[0]: job "b" was added'),
    (raw([{}, {"job_id": "b"}]), raw(), 'jobs[1]: job "b" was removed'),
    (
        raw([{}, {"job_id": "b"}]),
        raw([{"job_id": "b"}, {}]),
        'jobs[0]: the order changed: "a" is now "b"',
    ),
    (
        raw([{}, {"job_id": "b", "depends_on": ["a"]}]),
        raw([{}, {"job_id": "b"}]),
        'jobs[1].depends_on: ["a"] is now []',
    ),
    (
        raw([{"result_paths": []}]),
        raw([{"result_paths": [str(i) for i in range(9)]}]),
        'jobs[0].result_paths: [] is now ["0", "1", "2", "3", "4", … (4 more)]',
    ),
    (
        raw([{"result_paths": ["a"]}]),
        raw([{"result_paths": [{"path": "a", "optional": True}]}]),
        'jobs[0].result_paths: ["a"] is now ["a" (optional)]',
    ),
    (
        raw([{"result_paths": ["a"]}]),
        raw([{"result_paths": [{"path": "a", "optional": True, "fresh": "clear"}]}]),
        'jobs[0].result_paths: ["a"] is now ["a" (optional, fresh: clear)]',
    ),
    (raw(), raw(max_parallel_jobs="fit"), 'max_parallel_jobs: 1 is now "fit"'),
    (raw(), raw([{"array": 9}]), "jobs[0].array: not set is now 9"),
    (
        raw([{"array": 9}]),
        raw([{"array": 9, "array_stop": True}]),
        "jobs[0].array_stop: not set is now true",
    ),
    (
        raw([{"array": 9}, {"job_id": "b", "array": 9, "depends_on": ["a"]}]),
        raw([{"array": 9}, {"job_id": "b", "array": 9, "depends_on": ["a[]"]}]),
        'jobs[1].depends_on: ["a"] is now ["a[]"]',
    ),
    (
        raw([{"resources": {"memory": "1GiB"}}]),
        raw([{"resources": {"memory": ["1GiB", "2GiB"]}}]),
        'jobs[0].resources.memory: "1GiB" is now ["1GiB", "2GiB"]',
    ),
    (raw(), raw(resources={"gpus": 1}), 'resources: not set is now ["gpus"]'),
    (raw(image="a"), raw(image="b"), 'image: "a" is now "b"'),
    (
        raw([{"batch": {"tags": {"a": "1"}}}]),
        raw([{"batch": {"tags": {"a": "2"}}}]),
        'jobs[0].batch.tags.a: "1" is now "2"',
    ),
    (
        raw(),
        raw([{"input_paths": [{"s3": "s3://bkt/k", "path": "p"}]}]),
        'jobs[0].input_paths: [] is now ["s3://bkt/k" to "p"]',
    ),
]


def test_a_default_of_the_queue_makes_a_job_another() -> None:
    """A completed job would not run again in the image that it was given since."""
    old, same, new = (parse_document(raw(image=name)) for name in ("a", "a", "b"))
    own = parse_document(raw([{"image": "a", "mounts": []}]))
    assert job_difference(old, old.jobs[0], new, new.jobs[0]) == 'image: "a" is now "b"'
    assert job_difference(old, old.jobs[0], same, same.jobs[0]) is None
    assert job_difference(old, old.jobs[0], own, own.jobs[0]) is None


@pytest.mark.parametrize(("a", "b", "difference"), DIFFERENCES, ids=range(len(DIFFERENCES)))
def test_first_difference(a: bytes, b: bytes, difference: str | None) -> None:
    """The user would not learn why the document was refused, or would read a secret."""
    assert first_difference(parse_document(a), parse_document(b)) == difference


def test_read_document(tmp_path: Path) -> None:
    """A document could not be read from its file."""
    path = tmp_path / "queue.json"
    path.write_bytes(raw())
    assert read_document(path) == parse_document(raw())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file or directory"),
        (b"\xff", "is not UTF-8"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
    ],
)
def test_files_that_cannot_be_read_are_named(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    """The message would not say which file is meant."""
    path = tmp_path / "queue.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=message) as caught:
        read_document(path)
    assert str(path) in str(caught.value)


def test_a_folder_is_no_document(tmp_path: Path) -> None:
    """`runner run .` would end in a traceback."""
    with pytest.raises(UsageError, match="is a folder"):
        read_document(tmp_path)


def test_an_endless_file_is_too_large() -> None:
    """A wrong path such as /dev/zero would take all memory."""
    with pytest.raises(DocumentError, match="too large"):
        read_document(Path("/dev/zero"))


SCHEMA = Draft202012Validator(json_schema())


def test_schema_is_a_schema() -> None:
    """Editors would reject what `runner schema` prints."""
    Draft202012Validator.check_schema(json_schema())


def test_schema_accepts_good_documents() -> None:
    """An editor would mark a good document as wrong."""
    assert not list(SCHEMA.iter_errors(FULL))
    assert not list(SCHEMA.iter_errors(json.loads(raw())))


# What a schema can't say: sizes in bytes, names that are made of parts. And Python's $ allows a
# line feed behind it, the one of other languages doesn't.
BEYOND_SCHEMA = (
    *("bytes", "too many", "with a point", "longer than 0", "'//'", "only one can stand"),
    *('"b[x]"', '"a..b"', '"10.0.0.1"', "\\u000a", "after a wildcard", "the root folder"),
    *("whole number of", "above 0", "21GiB", "of the queue's pools", "contradicts env", "too many"),
)


@pytest.mark.parametrize(
    ("document", "message"),
    [(raw(**change), message) for change, message in QUEUE_ERRORS]
    + [(raw([change]), message) for change, message in JOB_ERRORS],
)
def test_schema_refuses_what_the_parser_refuses(document: bytes, message: str) -> None:
    """An editor would accept a document that the runner refuses."""
    if not any(words in errors_of(document)[0] for words in BEYOND_SCHEMA):
        assert list(SCHEMA.iter_errors(json.loads(document))), message


def test_schema_knows_the_parsers_fields() -> None:
    """A new field would be accepted and not be in the schema."""
    schema = json_schema()
    names = ("job", "retry", "input", "result", "resources", "batch")
    job, retry, given, result, resources, batch = (schema["$defs"][name] for name in names)
    for part, checks, required in (
        (schema, fields.QUEUE_FIELDS, fields.QUEUE_REQUIRED),
        (job, fields.JOB_FIELDS, fields.GIVEN_JOB_REQUIRED),
        (retry, fields.RETRY_FIELDS, fields.RETRY_REQUIRED),
        (given, fields.INPUT_FIELDS, fields.INPUT_REQUIRED),
        (result, fields.RESULT_FIELDS, fields.RESULT_REQUIRED),
        (resources, placement_fields.RESOURCE_FIELDS, set()),
        (batch, placement_fields.BATCH_FIELDS, set()),
    ):
        assert set(part["properties"]) == {*checks, "$schema"}
        assert set(part["required"]) == required
        assert all(field.get("description") for field in part["properties"].values())


def test_imports_stay_cheap() -> None:
    """Every verb would start later, and the daemon would be larger."""
    code = "import sys, runner.model.document; print(*sys.modules)"
    names = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"pydantic", "durationpy", "difflib", "boto3", "structlog", "asyncio", "subprocess"}
    assert not heavy & set(names.stdout.split())
