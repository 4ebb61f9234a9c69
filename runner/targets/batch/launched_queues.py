"""The queues that were launched on AWS Batch, how each stands, and what of it is overdue.

Owns how a queue's jobs are told from others' on a job queue: by the beginning of their names, which
holds the run. Batch tells what lives; the store, what should.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from runner.aws.batch import Batch
from runner.aws.errors import AwsError
from runner.batch.names import job_prefix
from runner.core.states import QUEUE_ENDED, QueueStatus
from runner.errors import RunnerError
from runner.model.durations import format_duration
from runner.results.stores import open_store
from runner.targets.batch.coordinator_job import job_name
from runner.targets.batch.launch_record import BatchLaunch, stored_launch
from runner.targets.batch.launcher import QueueInStore, look_into

ACTIVE = ("SUBMITTED", "PENDING", "RUNNABLE", "STARTING", "RUNNING")

SPARE = 3_600.0
"""Seconds after its global timeout in which a queue may still end in an orderly way."""

Job = dict[str, Any]


@dataclass(frozen=True, slots=True)
class LaunchedQueue:
    """``status`` and ``started_at`` (wall) as the store has them, None where nothing began;
    ``global_timeout`` in seconds. ``coordinator``: its job, if it lives; ``jobs``: those of the
    queue's run that do. ``trouble``: why the store could not be read.
    """

    launch: BatchLaunch
    status: QueueStatus | None = None
    run_id: str | None = None
    started_at: float | None = None
    global_timeout: float | None = None
    coordinator: Job | None = None
    jobs: tuple[Job, ...] = ()
    trouble: str | None = None

    @property
    def lives(self) -> bool:
        """Whether anything of it may cost."""
        return self.coordinator is not None or bool(self.jobs)

    @property
    def ids(self) -> list[str]:
        """Of the jobs in Batch that are to end with it, the coordinator's first."""
        first = [] if self.coordinator is None else [self.coordinator]
        return [str(each["jobId"]) for each in (*first, *self.jobs)]

    def age(self, now: float) -> float | None:
        """Seconds since it began, or since the oldest of its jobs in Batch was made."""
        created = [each["createdAt"] / 1000 for each in self.jobs if each.get("createdAt")]
        if self.coordinator is not None and self.coordinator.get("createdAt"):
            created.append(self.coordinator["createdAt"] / 1000)
        began = self.started_at if self.started_at is not None else min(created, default=None)
        return None if began is None else max(0.0, now - began)


def overdue(one: LaunchedQueue, now: float, older: float | None) -> str | None:
    """Why it is to be ended; None for one that isn't. ``older``: seconds that are too many."""
    if not one.lives:
        return None
    age = one.age(now)
    if one.status in QUEUE_ENDED and one.jobs:
        return f"the queue is {one.status.value}, and its jobs are still there"
    if older is not None and age is not None and age > older:
        return f"older than {format_duration(older)}"
    if one.global_timeout is None or age is None or age <= one.global_timeout + SPARE:
        return None
    return f"its global timeout of {format_duration(one.global_timeout)} is over"


def look_at_all(launches: Iterable[BatchLaunch]) -> tuple[list[LaunchedQueue], list[str]]:
    """How each stands, and what could not be looked at, for people. Blocks."""
    groups: dict[tuple[str, str], list[BatchLaunch]] = {}
    for launch in launches:
        groups.setdefault((launch.region, launch.job_queue), []).append(launch)
    found: list[LaunchedQueue] = []
    troubles: list[str] = []
    for (region, job_queue), here in sorted(groups.items()):
        try:
            active = list(Batch(region).in_states(job_queue, ACTIVE))
        except AwsError as error:
            troubles.append(f"job queue {job_queue} in {region} was not looked at: {error}")
            continue
        found += [_one(launch, active) for launch in here]
    return found, troubles


def _one(launch: BatchLaunch, active: Sequence[Job]) -> LaunchedQueue:
    try:
        with closing(open_store(launch.store)) as store:
            # It may have been resumed since, from another computer.
            newest = stored_launch(store) or launch
            there = look_into(store)
    except RunnerError as error:
        found = [job for job in active if job["jobId"] == launch.job]
        coordinator = found[0] if found else None
        return LaunchedQueue(launch, coordinator=coordinator, trouble=str(error))
    return joined(newest, there, active)


def joined(launch: BatchLaunch, there: QueueInStore, active: Sequence[Job]) -> LaunchedQueue:
    """What store and Batch come to together. Pure."""
    stored, document = there.stored, there.document
    name = job_name(launch.queue_id, launch.launch)
    prefix = None if stored is None else job_prefix(stored.run_id)
    return LaunchedQueue(
        launch,
        None if stored is None else stored.status,
        None if stored is None else stored.run_id,
        None if stored is None else stored.state.started_at,
        None if document is None else document.global_timeout,
        next((job for job in active if launch.job == job["jobId"] or job["jobName"] == name), None),
        tuple(job for job in active if prefix is not None and job["jobName"].startswith(prefix)),
    )


def end(one: LaunchedQueue, why: str) -> list[str]:
    """End its coordinator, then its jobs; what could not be ended, for people. Blocks."""
    batch = Batch(one.launch.region)
    troubles = []
    for job in one.ids:
        try:
            batch.terminate(job, f"runner reap: {why}")
        except AwsError as error:
            troubles.append(f"{job} could not be ended: {error}")
    return troubles
