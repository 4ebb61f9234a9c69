"""What a diagnosis goes by beside the job itself, fetched from AWS.

What may not be looked at is left out: each needs a permission of its own, and the rest helps too.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from runner.aws.batch import Batch
from runner.aws.errors import AwsError
from runner.aws.log_events import LogEvents
from runner.batch.diagnosis import Circumstances, Diagnosis, by_guilt, diagnose
from runner.batch.job_detail import JobDetail, read_job
from runner.batch.log_address import log_address
from runner.batch.queue_detail import (
    EnvironmentDetail,
    QueueDetail,
    front_of_queue,
    read_environment,
    read_queue_detail,
)

LINES = 50
"""Of a failed job's log."""

_FULL_SNAPSHOT = 100

T = TypeVar("T")


def explain(
    batch: Batch, job: JobDetail, region: str | None, missing: Callable[[str], None]
) -> Diagnosis:
    """The diagnosis by all that can be looked at; of an array with its first failed child's.

    ``missing`` hears of each thing that could not be looked at. Raises AwsError for none of them.
    """
    found = diagnose(job, look_around(batch, job, region, missing))
    if found.code != "array_child_failed":
        return found
    child = _try(lambda: _failed_child(batch, job), missing)
    if child is None:
        return found
    why = diagnose(child, look_around(batch, child, region, missing))
    step = f"its child {child.id}: {why.cause} [{why.code}]"
    steps = (step, *why.next_steps, *found.next_steps)
    return replace(found, next_steps=steps, evidence=why.evidence, log=why.log)


def _failed_child(batch: Batch, job: JobDetail) -> JobDetail | None:
    failed = batch.children(job.id, ("FAILED",))
    if not failed:
        return None
    first = min(failed, key=lambda each: (each.get("arrayProperties") or {}).get("index", 0))
    details = batch.describe([first["jobId"]])
    return next((read_job(raw) for raw in details.values()), None)


def look_around(
    batch: Batch, job: JobDetail, region: str | None, missing: Callable[[str], None]
) -> Circumstances:
    """What is of use for this job. ``missing`` hears of each thing that could not be looked at."""
    waited = time.time() - job.created if job.created is not None else None
    if job.status == "RUNNABLE":
        queue = _try(lambda: _queue(batch, job.queue_arn), missing)
        environments = _try(lambda: _environments(batch, queue), missing)
        place = _try(lambda: _place(batch, job), missing)
        return Circumstances(queue, environments or (), place, waited=waited)
    if job.status == "FAILED":
        return Circumstances(log=_try(lambda: _log(job, region), missing) or (), waited=waited)
    return Circumstances(waited=waited)


def _try(look: Callable[[], T], missing: Callable[[str], None]) -> T | None:
    try:
        return look()
    except AwsError as error:
        missing(str(error))
        return None


def _queue(batch: Batch, queue: str) -> QueueDetail | None:
    found = batch.queue(queue)
    return read_queue_detail(found) if found is not None else None


def _environments(batch: Batch, queue: QueueDetail | None) -> tuple[EnvironmentDetail, ...]:
    names = queue.environments if queue is not None else ()
    return tuple(read_environment(each) for each in batch.environments(names))


def _place(batch: Batch, job: JobDetail) -> int | None:
    """From 1; 0: behind the first 100."""
    front = front_of_queue(batch.snapshot(job.queue_arn))
    if job.id in front:
        return front.index(job.id) + 1
    return 0 if len(front) >= _FULL_SNAPSHOT else None


def _log(job: JobDetail, region: str | None) -> tuple[str, ...]:
    """The end of the log of the container that explains the failure, else of one that has a log."""
    for each in by_guilt(job):
        if (address := log_address(job, each, region)) is not None:
            events = LogEvents(address.region).last(address.group, address.stream, LINES)
            return tuple(event.message for event in events)
    return ()
