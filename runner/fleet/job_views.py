"""How a job is getting on: its rate, what is left, why tasks have failed, who is silent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from runner.fleet.database import FleetDatabase
from runner.fleet.machine_costs import JobCost, cost_of
from runner.fleet.records import Backlog, FleetJob, StateTotals, TaskState, WorkerRecord

WINDOW = 900.0
"""Seconds over which the rate is measured."""

SILENT = 300.0
"""Seconds without a beat after which a worker is told as silent: the default lease."""

REASONS = 10
"""Reasons of failures that are told, the most frequent first."""


@dataclass(frozen=True, slots=True)
class FailureGroup:
    """``count`` tasks have failed for one reason; ``state``: for good, or they are tried again."""

    state: TaskState
    reason: str
    count: int


@dataclass(frozen=True, slots=True)
class JobProgress:
    """``rate``: tasks done in a second, lately; ``eta``: seconds until all is done at that rate,
    None where nothing tells."""

    job: FleetJob
    totals: Sequence[StateTotals]
    backlog: Backlog
    rate: float
    eta: float | None
    workers: Sequence[WorkerRecord]
    silent: Sequence[WorkerRecord]
    failures: Sequence[FailureGroup]
    cost: JobCost


def progress(database: FleetDatabase, job: FleetJob) -> JobProgress:
    """As of now. Raises DatabaseAwayError."""
    now = database.now()
    totals, backlog = database.views.totals(job.id), database.views.backlog(job.id)
    ever = database.workers(job.id)
    workers = [each for each in ever if each.stopped_at is None]
    silent = [each for each in workers if now - (each.beat_at or now) > SILENT]
    alive = len(workers) - len(silent)
    done, since = database.views.done_lately(job.id, WINDOW)
    rate = done / max(1.0, min(WINDOW, now - since)) if done and since is not None else 0.0
    left = backlog.left
    mean = next((each.mean_ms for each in totals if each.state is TaskState.DONE), 0.0) / 1000
    eta: float | None = 0.0
    if left:
        eta = left / rate if rate else left * mean / alive if mean and alive else None
    failures = failure_groups(database, job)
    count = next((each.count for each in totals if each.state is TaskState.DONE), 0)
    cost = cost_of(database.machines(job.id), ever, count, now, SILENT)
    return JobProgress(job, totals, backlog, rate, eta, workers, silent, failures, cost)


def failure_groups(
    database: FleetDatabase, job: FleetJob, limit: int = REASONS
) -> list[FailureGroup]:
    """Why tasks have failed, the most frequent reason first. Raises DatabaseAwayError."""
    return [
        FailureGroup(TaskState(state), reason or "-", count)
        for state, reason, count in database.views.failure_reasons(job.id, limit)
    ]
