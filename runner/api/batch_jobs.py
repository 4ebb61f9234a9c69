"""Tasks as jobs of a queue whose attempts are jobs of AWS Batch: pure.

A call of a function is a job whose inputs are the call and the worker that runs it. Its result is
a result file; its exception, which comes from an attempt that fails, is what that attempt leaves
for the next one: its checkpoint. Both are stored by the containers that carry files.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace

from runner.api.capabilities import Capabilities
from runner.api.local_jobs import WORKER_MODULE
from runner.api.tasks import CommandTask, FunctionTask, Task
from runner.model.document import JobSpec
from runner.model.elements import INDEX, split_name
from runner.model.placement import ArraySpec, BatchSpec, Placement
from runner.model.queue import InputSpec, ResultSpec

FOLDER = ".runner"
"""In a call's working folder."""

RESULT_NAME = "call.result"
CALLS = "calls"
"""Below it are the calls in the queue's store, and what they need."""

IN_IMAGE = "in-image"
LARGEST_ARRAY = 10_000
"""Children (Batch User Guide, "Array jobs")."""


@dataclass(frozen=True, slots=True)
class BatchManner:
    """How an executor's jobs run there. ``store``: of the queue, as ``s3://bucket/prefix``;
    ``archives``: names of what each call needs, the worker first. ``staging``, ``share``: as in a
    document. ``longest``: seconds of a job that names no timeout."""

    store: str
    archives: tuple[str, ...]
    staging: str | None
    share: str | None
    longest: float


def call_key(job_id: str) -> str:
    """Where a call is in the queue's store; of an element of an array, too."""
    name, index = split_name(job_id)
    return f"{CALLS}/{name}.call" if index is None else f"{CALLS}/{name}/{index}.call"


def archive_key(name: str) -> str:
    """Where an archive is in the queue's store."""
    return f"{CALLS}/{name}"


def batch_job_of(task: Task, manner: BatchManner) -> JobSpec:
    """The job that carries a task out there."""
    match task:
        case FunctionTask():
            return _call(task.id, task.payload.sha256, call_key(task.id), task, manner)
        case CommandTask():
            pass
    wanted = task.capabilities
    script = task.script if task.script is not None else f"exec {shlex.join(task.argv or ())}"
    return JobSpec(
        job_id=task.id,
        command=script,
        timeout=manner.longest if wanted.timeout is None else wanted.timeout,
        env={**wanted.env, **task.env},
        retry=wanted.retry,
        input_paths=tuple(InputSpec(each.s3, each.path) for each in task.input_paths),
        result_paths=tuple(ResultSpec(each) for each in task.result_paths),
        placement=_placement(wanted, manner, manner.staging),
    )


def array_of(name: str, first: FunctionTask, size: int, manner: BatchManner) -> JobSpec:
    """The array of so many calls, which differ from the first in nothing but their payloads."""
    job = _call(name, "", f"{CALLS}/{name}/{INDEX}.call", first, manner)
    return replace(job, array=ArraySpec(size))


def _call(name: str, sha256: str, key: str, task: FunctionTask, manner: BatchManner) -> JobSpec:
    wanted = task.capabilities
    results = f"{FOLDER}/{RESULT_NAME}.*"
    archives = (
        InputSpec(f"{manner.store}/{archive_key(each)}", f"{FOLDER}/{_local_name(each)}")
        for each in manner.archives
    )
    shell = ("/bin/sh", "-c", f'exec python3 {FOLDER}/worker.zip "$0" "$@"', WORKER_MODULE)
    return JobSpec(
        job_id=name,
        command=f"{sha256} {FOLDER}/call",
        timeout=manner.longest if wanted.timeout is None else wanted.timeout,
        env=dict(wanted.env),
        retry=wanted.retry,
        input_paths=(*archives, InputSpec(f"{manner.store}/{key}", f"{FOLDER}/call")),
        result_paths=(ResultSpec(results, optional=True),),
        checkpoint_paths=(results,),
        placement=_placement(wanted, manner, manner.staging or IN_IMAGE, shell),
    )


def _local_name(archive: str) -> str:
    """The worker has a name of its own, so that all calls have the same command."""
    return "worker.zip" if archive.startswith("worker-") else archive


def _placement(
    wanted: Capabilities,
    manner: BatchManner,
    staging: str | None,
    shell: tuple[str, ...] | None = None,
) -> Placement:
    batch = BatchSpec(share=manner.share, queue=wanted.queue, staging=staging)
    return Placement(wanted.resources, wanted.image, shell=shell, batch=batch)
