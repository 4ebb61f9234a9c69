"""What a fleet is made of: jobs, tasks, claims, workers, as records.

Frozen, and without any knowledge of SQL or queues. Times are wall seconds of the database's clock,
durations are seconds unless a name says milliseconds.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Annotated, Any

from runner.fleet.machine_setup import MachineSetup
from runner.model.records import Rule, number, parse, whole

DEFAULT_ATTEMPTS = 3
DEFAULT_RETRY_DELAY = 10.0
MAX_RETRY_DELAY = 900.0
"""Seconds, what SQS can delay a message for (its API reference, SendMessage)."""

LOST_LIMIT = 5
"""Leases of one task that run out in a row until nobody tries it again."""


class TaskState(Enum):
    """Where a task stands. ``RETRYABLE_FAILED`` waits for its next attempt."""

    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"
    RETRYABLE_FAILED = "retryable_failed"
    TERMINAL_FAILED = "terminal_failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class TaskItem:
    """What one task is for. ``key`` names it in its job: ``W22084/I0886`` for a volume."""

    key: str
    params: Mapping[str, str] = field(default_factory=dict)
    w_id: str | None = None
    i_id: str | None = None

    @classmethod
    def volume(cls, w_id: str, i_id: str) -> TaskItem:
        """The seed's volumes: a work and one of its image groups."""
        return cls(f"{w_id}/{i_id}", {}, w_id, i_id)

    @classmethod
    def of(cls, params: Mapping[str, str]) -> TaskItem:
        """Any other item. Its key is its ``id``, else a digest of its parameters."""
        if own := params.get("id"):
            return cls(own, params)
        packed = json.dumps(dict(params), sort_keys=True, ensure_ascii=False)
        return cls(f"item-{hashlib.sha256(packed.encode()).hexdigest()[:16]}", params)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOptions:
    """How the tasks of a job are run. One of ``template`` (the text of a queue document) and
    ``command`` is given, or neither: then it is an installed package that is named like the job.

    ``max_attempts`` counts runs that failed by themselves; after the n-th the next one waits for
    ``retry_delay`` · 2^(n-1) seconds. ``terminal_codes``: exit codes after which no attempt helps.
    ``timeout``: seconds of one run of ``command``. ``results``: the store of all its tasks; None is
    a folder beside the embedded database. ``manifest_key``: of each task in the source store, with
    ``{w_id}`` and ``{i_id}``, or names of its own; None: tasks have none. ``machines``: how its
    machines were launched last. ``keeps_outcomes``: a task whose commands have come to an end of
    their own is done, however they ended; see ``task_outcome``.
    """

    template: str | None = None
    command: str | None = None
    max_attempts: Annotated[int, Rule(whole(1, 100))] = DEFAULT_ATTEMPTS
    retry_delay: Annotated[float, Rule(number(0, 86_400))] = DEFAULT_RETRY_DELAY
    terminal_codes: tuple[Annotated[int, Rule(whole(0, 255))], ...] = ()
    timeout: Annotated[float, Rule(number(0.001, 31_536_000))] = 86_400.0
    results: str | None = None
    manifest_key: str | None = None
    machines: MachineSetup | None = None
    keeps_outcomes: bool = False


@dataclass(frozen=True, slots=True)
class FleetJob:
    """A job of the fleet. ``config``: JSON text, given to each task. ``queue_url`` None: the
    database itself hands out the tasks. ``paused``: why nothing of it is started. ``max_running``:
    tasks that run at once, over all workers; None: as many as there are workers for."""

    id: int
    name: str
    config: str
    options: JobOptions
    queue_url: str | None = None
    dlq_url: str | None = None
    paused: str | None = None
    created_at: float | None = None
    max_running: int | None = None


@dataclass(frozen=True, slots=True)
class Metrics:
    """What a task says of what it did; ``more``: everything in its file, as it was written."""

    total_images: int | None = None
    nb_errors: int | None = None
    duration_ms: float | None = None
    more: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FleetTask:
    """A task as it is stored. ``epoch`` grows with each claim; ``attempts`` counts failures;
    ``lost``: leases in a row that ran out; ``run``: the folder of its newest results."""

    id: int
    job_id: int
    key: str
    params: Mapping[str, str]
    state: TaskState
    epoch: int
    attempts: int
    lost: int
    run: int
    w_id: str | None = None
    i_id: str | None = None
    etag: str | None = None
    worker_id: int | None = None
    worker: str | None = None
    error: str | None = None
    total_images: int | None = None
    nb_errors: int | None = None
    duration_ms: float | None = None
    enqueued_at: float | None = None
    started_at: float | None = None
    done_at: float | None = None
    not_before: float | None = None
    lease_until: float | None = None
    dead_epoch: int | None = None

    @property
    def item(self) -> TaskItem:
        """What it is for."""
        return TaskItem(self.key, self.params, self.w_id, self.i_id)


@dataclass(frozen=True, slots=True)
class ReportedTask:
    """What a report says of one task. ``ended``: wall seconds, also of a failure that is tried
    again; ``worker``: whose it was last."""

    key: str
    state: TaskState
    attempts: int
    ended: float | None
    duration_ms: float | None
    worker: str | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class StateTotals:
    """All tasks of a job in one state. ``duration_ms`` is their sum, over ``timed`` tasks."""

    state: TaskState
    count: int
    total_images: int = 0
    nb_errors: int = 0
    duration_ms: float = 0.0
    timed: int = 0

    @property
    def mean_ms(self) -> float:
        """Mean duration of those that have one."""
        return self.duration_ms / self.timed if self.timed else 0.0


@dataclass(frozen=True, slots=True)
class WorkerRecord:
    """A worker's own row. ``beat_at``: when it was last heard of; ``task``: what it runs."""

    id: int
    name: str
    job_id: int
    host: str
    pid: int
    version: str
    started_at: float | None
    beat_at: float | None
    stopped_at: float | None
    task: int | None
    task_key: str | None = None


@dataclass(frozen=True, slots=True)
class Backlog:
    """What is left of a job. ``due``: can be claimed now; ``waiting``: for its next attempt."""

    due: int
    waiting: int
    running: int

    @property
    def left(self) -> int:
        """How many tasks have not ended."""
        return self.due + self.waiting + self.running

    @property
    def empty(self) -> bool:
        """Whether nothing will ever come of it any more."""
        return not self.left


@dataclass(frozen=True, slots=True)
class MachineRecord:
    """A machine that was launched for a job: its queue's id, its instance, dollars an hour (None
    where nothing tells), and when it was launched."""

    name: str
    instance_id: str
    price: float | None
    launched_at: float


def parse_options(raw: str, job: str) -> JobOptions:
    """The options of a stored job. Raises RecordError."""
    return parse(JobOptions, raw, f"the options of job {job!r}")


def dump_options(options: JobOptions) -> str:
    """As they are stored."""
    given = {name: value for name, value in asdict(options).items() if value is not None}
    return json.dumps(given, ensure_ascii=False, sort_keys=True)


def parse_params(raw: str, name: str) -> dict[str, str]:
    """The parameters of a stored task. Raises RecordError."""
    return dict(parse(_Params, f'{{"params":{raw}}}', name).params)


@dataclass(frozen=True, slots=True)
class _Params:
    params: Mapping[str, str]
