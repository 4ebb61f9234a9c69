"""From the start of attempts to a submission: the intent for the containers, and Batch's request.

Pure. Owns what of a document an attempt on AWS Batch is told, and which starts go as one array.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from runner.batch.definitions import (
    Commands,
    JobNeeds,
    attempt_seconds,
    compose,
    overrides,
)
from runner.batch.names import MAX_ARRAY, job_name
from runner.batch.plain_attempts import PlainCommand, plain_seconds
from runner.batch.records import (
    BatchSubmission,
    OutputsOf,
    StoredInput,
    StoredResult,
    runs_of,
)
from runner.batch.staging import Staging, staging_of
from runner.core.actions import StartAttempt
from runner.core.attempts import start_number
from runner.core.scheduler import Scheduler
from runner.model.document import JobSpec
from runner.model.elements import split_name
from runner.model.queue import ResultSpec
from runner.results.layout import Layout


@dataclass(frozen=True, slots=True)
class BatchDefaults:
    """Where a queue's attempts run in AWS Batch, and with what; roles are ARNs.

    ``image``: of jobs that name none; ``agent_image``: of the containers that carry files;
    ``shared``: a file system that every job mounts, ``efs:fs-…[:/path]…``.
    """

    job_queue: str
    region: str | None = None
    image: str | None = None
    agent_image: str = "public.ecr.aws/docker/library/python:3.12-slim"
    job_role: str | None = None
    execution_role: str | None = None
    shared: str | None = None
    fargate: bool = False
    fair_share: bool = False

    def queue_of(self, scheduler: Scheduler, job: JobSpec) -> str:
        """The job queue of one job."""
        own = scheduler.document.placed(job).batch
        return own.queue if own is not None and own.queue is not None else self.job_queue


@dataclass(frozen=True, slots=True)
class Composed:
    """A submission, by the token of its first attempt, and the two requests it takes."""

    token: str
    submission: BatchSubmission
    request: dict[str, Any]
    definition: dict[str, Any]


def compose_submission(
    target: BatchDefaults,
    scheduler: Scheduler,
    queue_id: str,
    store: str,
    commands: Commands,
    live_log_interval: float,
    restore: tuple[OutputsOf, ...],
    actions: Sequence[StartAttempt],
) -> Composed:
    """The submission of these starts: of one job, or of elements of one array. ``store``: as
    ``s3://bucket/prefix``; ``restore``: whose files they need."""
    document, run_id = scheduler.document, scheduler.queue.run_id
    first = actions[0]
    job = given_job(scheduler, first)
    grace = document.grace(job)
    placed = document.placed(job)
    image = document.image(job) or target.image
    queue = target.queue_of(scheduler, job)
    submission = BatchSubmission(
        store=store,
        run_id=run_id,
        epoch=scheduler.queue.epoch,
        queue_id=queue_id,
        job_id=job.job_id,
        runs=runs_of(
            (
                _index(scheduler, action),
                action.attempt,
                start_number(run_id, action.token),
                scheduler.jobs[action.job].first_started_at,
            )
            for action in actions
        ),
        command=job.command,
        timeout=job.timeout,
        term_grace=grace,
        env={**document.env, **job.env},
        secret_env=dict(document.secrets(job)),
        shell=placed.shell or (),
        working_directory=job.working_directory or document.working_directory,
        result_paths=tuple(map(_stored_result, job.result_paths)),
        output_paths=tuple(map(_stored_result, job.output_paths)),
        checkpoint_paths=job.checkpoint_paths,
        input_paths=tuple(StoredInput(each.s3, each.path) for each in job.input_paths),
        inputs_in_timeout=job.inputs_in_timeout,
        restore=restore,
        image=image,
        job_queue=queue,
        live_log_interval=live_log_interval,
    )
    needs = needs_of(target, scheduler, first, image or "")
    return Composed(
        token=first.token,
        submission=submission,
        request=_request(target, scheduler, job, first, submission, queue),
        definition=compose(needs, commands),
    )


def _stored_result(result: ResultSpec) -> StoredResult:
    return StoredResult(result.path, result.optional, result.fresh)


def given_job(scheduler: Scheduler, action: StartAttempt) -> JobSpec:
    """The job of a start as the document gives it: of an element its array, nothing filled in."""
    array = scheduler.arrays.of(action.job)
    return scheduler.document.jobs[action.job] if array is None else array.spec.job


def together(scheduler: Scheduler, actions: Sequence[StartAttempt]) -> list[list[StartAttempt]]:
    """These starts by submission: elements of one array go together where they need the same.

    The memory of an attempt may depend on its number, and what a plain job is told does.
    """
    groups: dict[tuple[str, int, bool], list[StartAttempt]] = {}
    alone: list[list[StartAttempt]] = []
    for action in actions:
        array = scheduler.arrays.of(action.job)
        if array is None:
            alone.append([action])
            continue
        document, job = scheduler.document, array.spec.job
        plain = staging_of(document, job) is Staging.NONE
        memory = document.resources(job).memory
        number = action.attempt if plain else min(action.attempt, len(memory))
        groups.setdefault((array.job_id, number, plain), []).append(action)
    cut = [
        row[at : at + MAX_ARRAY]
        for (_, _, plain), group in groups.items()
        for row in (_rows(scheduler, group) if plain else [group])
        for at in range(0, len(row), MAX_ARRAY)
    ]
    return [*alone, *cut]


def _rows(scheduler: Scheduler, group: Sequence[StartAttempt]) -> list[list[StartAttempt]]:
    """Elements with the next index each: plain jobs find theirs by that of the first."""
    rows: list[list[StartAttempt]] = []
    last = -1
    for action in group:
        index = _index(scheduler, action)
        assert index is not None
        if not rows or index != last + 1:
            rows.append([])
        rows[-1].append(action)
        last = index
    return rows


def _index(scheduler: Scheduler, action: StartAttempt) -> int | None:
    return split_name(scheduler.document.jobs[action.job].job_id)[1]


def _request(
    target: BatchDefaults,
    scheduler: Scheduler,
    job: JobSpec,
    first: StartAttempt,
    submission: BatchSubmission,
    queue: str,
) -> dict[str, Any]:
    run_id = submission.run_id
    staging = staging_of(scheduler.document, job)
    if staging is Staging.NONE:
        seconds = plain_seconds(submission.timeout)
        told = {"containerOverrides": _plain(submission).overrides()}
    else:
        key = f"{submission.store}/{Layout().submission_key(first.token)}"
        seconds = attempt_seconds(submission.timeout, submission.term_grace)
        told = {"ecsPropertiesOverride": overrides(key, target.region, staging)}
    request: dict[str, Any] = {
        "jobName": job_name(run_id, start_number(run_id, first.token), job.job_id),
        "jobQueue": queue,
        "retryStrategy": {"attempts": 1},
        "timeout": {"attemptDurationSeconds": seconds},
        **told,
    }
    own = scheduler.document.placed(job).batch
    if own is not None:
        if own.share is not None:
            request["shareIdentifier"] = own.share
        if own.priority is not None:
            request["schedulingPriorityOverride"] = own.priority
        if own.tags:
            request |= {"tags": dict(own.tags), "propagateTags": True}
    if submission.size > 1:
        request["arrayProperties"] = {"size": submission.size}
    return request


def _plain(submission: BatchSubmission) -> PlainCommand:
    entry = submission.entry()
    own = {
        "JOB_ID": submission.job_id,
        "JOB_ATTEMPT": str(entry.attempt),
        "QUEUE_ID": submission.queue_id,
    }
    return PlainCommand(
        submission.command,
        submission.shell,
        {**submission.env, **own},
        submission.working_directory,
        entry.index,
    )


def needs_of(
    target: BatchDefaults, scheduler: Scheduler, action: StartAttempt, image: str
) -> JobNeeds:
    """What an attempt needs where it runs."""
    document = scheduler.document
    job = given_job(scheduler, action)
    own = document.placed(job).batch
    asked = document.resources(job)
    memory = asked.memory_of(action.attempt)
    plain = JobNeeds(image, target.agent_image)
    return JobNeeds(
        image=image,
        agent_image=target.agent_image,
        vcpus=asked.cpus,
        memory=plain.memory if memory is None else memory,
        gpus=asked.gpus or 0,
        grace=document.grace(job),
        fargate=target.fargate,
        job_role=target.job_role,
        execution_role=target.execution_role,
        shm=None if own is None else own.shm,
        ephemeral=None if own is None else own.ephemeral_storage,
        shared=target.shared,
        staging=staging_of(document, job),
    )
