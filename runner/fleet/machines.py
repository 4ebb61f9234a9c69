"""The machines of a fleet: each is a launched queue, whose one job is a process of workers.

Pure: which document a machine runs, which machines are a job's, and how many of them it takes.
"""

from __future__ import annotations

import math
import re
import shlex
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runner.fleet.machine_setup import MachineSetup
from runner.fleet.records import Backlog, WorkerRecord
from runner.model.durations import format_duration
from runner.timestamps import parse_rfc3339

ENDED = frozenset({"shutting-down", "terminated"})
"""States of an instance that will run nothing any more (EC2 User Guide, "Instance lifecycle")."""

STOP_GRACE = "2m"
"""For a worker to give its tasks back: as long as a Spot notice comes before the end."""


@dataclass(frozen=True, slots=True)
class FleetMachine:
    """One that is there, or comes. ``name``: its queue's id, and the beginning of its workers'
    names; ``price``: dollars an hour, None where it isn't known; ``began``: wall seconds."""

    id: str
    name: str
    state: str
    instance_type: str | None
    price: float | None
    cost: float | None
    began: float | None = None


def new_names(job: str, count: int, now: float) -> list[str]:
    """Ids for so many new machines: no two calls in different seconds give the same."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    return [f"fleet-{job}-{stamp}-{number}" for number in range(1, count + 1)]


def machine_document(job: str, name: str, setup: MachineSetup) -> dict[str, Any]:
    """The queue document that a machine runs.

    A worker that ends by a mistake of its own begins again; what it was doing is given to others
    when its lease is over.
    """
    words = ["runner-fleet", "worker", "--job-name", job, "--name", name, *setup.worker]
    lifetime = format_duration(setup.lifetime)
    document: dict[str, Any] = {
        "queue_id": name,
        "queue_name": f"workers of the fleet's job {job}",
        "on_failure": "stop",
        "global_timeout": lifetime,
        "result_s3_bucket": setup.bucket,
        "term_grace": STOP_GRACE,
        "jobs": [
            {
                "job_id": "worker",
                "command": shlex.join(words),
                "timeout": lifetime,
                "retry": {"max_attempts": 10, "base_delay": "10s", "max_delay": "5m"},
            }
        ],
    }
    if setup.env:
        document["env"] = dict(setup.env)
    if setup.secret_env:
        document["secret_env"] = dict(setup.secret_env)
    return document


def machines_of(job: str, listed: Iterable[Mapping[str, Any]]) -> list[FleetMachine]:
    """Those of `runner ls --json` that work for a job, the oldest first."""
    ours = re.compile(rf"fleet-{re.escape(job)}-(\d{{8}}T\d{{6}}Z)-(\d+)")
    found = []
    for each in listed:
        name = str(each.get("queue") or "")
        if (match := ours.fullmatch(name)) and str(each.get("state")) not in ENDED:
            found.append((match[1], int(match[2]), _machine(each, name)))
    return [machine for _, _, machine in sorted(found, key=lambda row: row[:2])]


def _machine(listed: Mapping[str, Any], name: str) -> FleetMachine:
    def amount(key: str) -> float | None:
        value = listed.get(key)
        return float(value) if isinstance(value, int | float) else None

    return FleetMachine(
        str(listed.get("id")),
        name,
        str(listed.get("state")),
        str(listed["type"]) if listed.get("type") else None,
        amount("price_per_hour"),
        amount("cost"),
        _moment(listed.get("began_at")),
    )


def _moment(text: Any) -> float | None:
    try:
        return parse_rfc3339(text) if isinstance(text, str) else None
    except ValueError:
        return None


def is_of(worker: str, name: str) -> bool:
    """Whether a worker is that one, or one of the machine of that name."""
    return worker == name or worker.startswith(f"{name}-")


def machines_needed(
    backlog: Backlog, mean_seconds: float, within: float, concurrency: int = 1
) -> int:
    """How many machines it takes to do all that is left within so many seconds; at least one while
    anything is left. ``mean_seconds``: of one task; ``concurrency``: tasks of a machine at once."""
    if not (left := backlog.left):
        return 0
    # No task is split: within the time a worker does whole ones only, but one it does.
    each = max(1, math.floor(within / mean_seconds)) if mean_seconds > 0 else left
    return math.ceil(left / (each * concurrency))


def chosen_to_drain(
    machines: Sequence[FleetMachine], workers: Sequence[WorkerRecord], count: int
) -> list[FleetMachine]:
    """Which machines to take away: those that do nothing first, then the newest."""

    def busy(machine: FleetMachine) -> int:
        return sum(
            each.task is not None and each.stopped_at is None
            for each in workers
            if is_of(each.name, machine.name)
        )

    newest_first = list(enumerate(machines))[::-1]
    ranked = sorted(newest_first, key=lambda row: busy(row[1]))
    return [machine for _, machine in ranked[: max(0, count)]]
