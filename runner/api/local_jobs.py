"""Tasks as jobs of a queue on this machine, and back: pure.

A call of a function is a job whose shell is the worker of this interpreter, so that no bash is
started for it, and its record alone tells that it is one.
"""

from __future__ import annotations

import os
import shlex
import sys

from runner.api.capabilities import Capabilities
from runner.api.command_result import TIMED_OUT
from runner.api.job_target import JobEnd
from runner.api.tasks import CommandTask, FunctionTask, Task
from runner.core.states import JobState
from runner.model.document import JobSpec
from runner.model.durations import LONGEST
from runner.model.elements import element_name
from runner.model.placement import NO_PLACEMENT, Placement
from runner.model.queue import InputSpec, ResultSpec

WORKER_MODULE = "runner.api.worker"


def worker_shell() -> tuple[str, ...]:
    """What a call is given to, as its last argument. -P: the folder it is called in is no place
    to import from."""
    return (sys.executable, "-P", "-m", WORKER_MODULE)


def refusal_here(name: str, capabilities: Capabilities) -> str | None:
    """Why a call with these can't run on this machine, which is target ``name``; None: it can."""
    for each in ("queue", "job_definition", "region"):
        if getattr(capabilities, each) is not None:
            return f'"{each}" is of AWS Batch, and target "{name}" is this machine'
    if capabilities.image:
        return f'"image": target "{name}" runs no containers'
    cpus = capabilities.cpus
    if cpus is not None and cpus > max(1, os.cpu_count() or 1):
        return f'"cpus": {cpus:g}, and this machine has {os.cpu_count()}'
    return None


def job_of(task: Task) -> JobSpec:
    """The job that carries a task out on this machine."""
    wanted = task.capabilities
    resources = wanted.resources
    env = dict(wanted.env)
    inputs: tuple[InputSpec, ...] = ()
    results: tuple[ResultSpec, ...] = ()
    match task:
        case FunctionTask():
            command = f"{task.payload.sha256} {task.payload.where}"
            placement = Placement(resources=resources, shell=worker_shell())
        case CommandTask():
            env |= task.env
            placement = NO_PLACEMENT if resources is None else Placement(resources=resources)
            command = (
                task.script if task.script is not None else f"exec {shlex.join(task.argv or ())}"
            )
            inputs = tuple(InputSpec(each.s3, each.path) for each in task.input_paths)
            results = tuple(ResultSpec(each) for each in task.result_paths)
    return JobSpec(
        job_id=task.id,
        command=command,
        timeout=LONGEST if wanted.timeout is None else wanted.timeout,
        env=env,
        retry=wanted.retry,
        input_paths=inputs,
        result_paths=results,
        placement=placement,
    )


def is_function(job: JobSpec) -> bool:
    """Whether the job is a call of a function."""
    return job.placement.shell is not None and WORKER_MODULE in job.placement.shell


def end_of(job_id: str, job: JobSpec, state: JobState) -> JobEnd:
    """How a job ended, from its record."""
    return JobEnd(
        job_id=job_id,
        status=TIMED_OUT if state.timed_out else state.status.value,
        attempt=state.attempt,
        exit_code=state.exit_code,
        signal=state.signal,
        message=state.error_message or state.reason,
        function=is_function(job),
        started_at=state.started_at,
        ended_at=state.completed_at,
        result_paths=tuple(each.path for each in job.result_paths),
    )


def names_of(job: JobSpec) -> list[str]:
    """The ids of a job's Futures: of an array those of its elements."""
    if job.array is None:
        return [job.job_id]
    return [element_name(job.job_id, index) for index in range(job.array.size)]
