"""Rows of the task table as records, and the moments that either database writes."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from runner.errors import RecordError
from runner.fleet.connection import Row
from runner.fleet.records import FleetTask, Metrics, TaskState, parse_params
from runner.model.records import decode

TASK_COLUMNS = """
    t.id, t.job_id, t.task_key, t.params, t.state, t.epoch, t.attempts, t.lost, t.run,
    v.w_id, v.i_id, t.s3_etag, t.worker_id, w.worker_name, t.error, t.total_images, t.nb_errors,
    t.total_duration_ms, t.enqueued_at, t.started_at, t.done_at, t.not_before, t.lease_until,
    t.dead_epoch
"""

TASK_TABLES = """
    task_executions AS t
    LEFT JOIN volumes AS v ON v.id = t.volume_id
    LEFT JOIN workers AS w ON w.id = t.worker_id
"""


WAITS = "state IN ('pending', 'retryable_failed')"
"""As the partial indexes have it, word for word: PostgreSQL uses them for nothing else."""


def moment(value: float | datetime | None) -> float | None:
    """Wall seconds of what is a number in SQLite and a timestamptz in PostgreSQL."""
    return value.timestamp() if isinstance(value, datetime) else value


def task_of(row: Row) -> FleetTask:
    """The record of TASK_COLUMNS. Raises RecordError."""
    id, job, key, params, state, epoch, attempts, lost, run, w_id, i_id, etag = row[:12]
    worker_id, worker, error, images, errors, duration, *times, dead = row[12:]
    enqueued, started, done, not_before, lease = map(moment, times)
    name = f"task {id} ({key})"
    try:
        known = TaskState(state)
    except ValueError:
        raise RecordError(f"{name}: its state is {state!r}") from None
    return FleetTask(
        id, job, key, parse_params(params, name), known, epoch, attempts, lost, run, w_id, i_id,
        etag, worker_id, worker, error, images, errors, duration, enqueued, started, done,
        not_before, lease, dead,
    )  # fmt: skip


def metric_values(metrics: Metrics) -> dict[str, Any]:
    """What a finished row holds of them."""
    images, duration = metrics.total_images, metrics.duration_ms
    return {
        "images": images,
        "errors": metrics.nb_errors,
        "duration": duration,
        "per_page": duration / images if duration is not None and images else None,
        "metrics": json.dumps(dict(metrics.more), ensure_ascii=False) if metrics.more else None,
    }


def parse_metrics(raw: bytes | str, name: str, duration_ms: float | None = None) -> Metrics:
    """The metrics in a task's file, or in a marker: an object; two of its keys have columns.

    Raises RecordError for what is no object, or where those two aren't whole numbers.
    """
    found = decode(raw, name)
    if type(found) is not dict:
        raise RecordError(f"{name}: must be an object")
    counts: dict[str, int | None] = {}
    for key in ("total_images", "nb_errors"):
        value = found.get(key)
        if value is not None and (type(value) is not int or not 0 <= value < 2**53):
            raise RecordError(f"{name}: {key}: must be a whole number, at least 0")
        counts[key] = value
    return Metrics(counts["total_images"], counts["nb_errors"], duration_ms, found)
