"""What can be true of a job and of a queue, and which changes are legal.

Owns the statuses, the one table of transitions, and the records of jobs and queue. A record is
frozen: a change makes a new one, so a snapshot of ten thousand jobs is a copied list. It knows
nothing of events, of the disk or of how a status is shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from enum import Enum
from operator import attrgetter
from typing import Annotated, Any, TypeVar

from runner.errors import IllegalTransition
from runner.model.records import (
    MOST,
    Count,
    Name,
    Rule,
    Seconds,
    WallTime,
    fields_by_key,
    matching,
    number,
    read,
    whole,
)


class JobStatus(str, Enum):
    """Where a job stands; the value is what people read."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"
    SKIPPED = "skipped"


class QueueStatus(str, Enum):
    """Where a queue stands; the value is what people read."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"


_J = JobStatus
_Q = QueueStatus

JOB_TRANSITIONS: dict[JobStatus, frozenset[JobStatus]] = {
    _J.PENDING: frozenset({_J.RUNNING, _J.COMPLETED, _J.SKIPPED, _J.CANCELLED, _J.FAILED}),
    _J.RUNNING: frozenset({_J.COMPLETED, _J.FAILED, _J.CANCELLED, _J.INTERRUPTED, _J.PENDING}),
    _J.INTERRUPTED: frozenset({_J.RUNNING, _J.FAILED, _J.CANCELLED}),
    _J.FAILED: frozenset({_J.PENDING}),
    _J.SKIPPED: frozenset({_J.PENDING}),
    _J.CANCELLED: frozenset({_J.PENDING}),
    _J.COMPLETED: frozenset({_J.PENDING}),
}
"""An ended job runs again by a request to retry, by a changed document, or because one that it
depends on does; ``completed`` also when what it made is lost and another job needs that. A pending
job completes without a run where nothing has changed since its last one."""

UNCHANGED = "unchanged"
"""The reason of a job that has completed so."""

QUEUE_TRANSITIONS: dict[QueueStatus, frozenset[QueueStatus]] = {
    _Q.PENDING: frozenset({_Q.RUNNING, _Q.CANCELLED}),
    _Q.RUNNING: frozenset({_Q.COMPLETED, _Q.FAILED, _Q.CANCELLED, _Q.INTERRUPTED}),
    _Q.INTERRUPTED: frozenset({_Q.RUNNING}),
    _Q.FAILED: frozenset({_Q.RUNNING}),
    _Q.CANCELLED: frozenset({_Q.RUNNING}),
    _Q.COMPLETED: frozenset({_Q.RUNNING}),
}
"""An ended queue runs again by a retry, or by an update that brings new jobs."""

LOST = "outputs lost at reboot"
"""The reason of a job that had completed and runs again after a boot."""

GONE = "outputs lost"
"""The same where no boot explains it: somebody has removed them."""

RETRIED = "a retry was asked for"
CHANGED = "its document was changed"
"""Why a queue that had ended and rested is to be worked on again."""

WAITING = frozenset({_J.PENDING, _J.INTERRUPTED})
ENDED = frozenset({_J.COMPLETED, _J.FAILED, _J.CANCELLED, _J.SKIPPED})
QUEUE_ENDED = frozenset({_Q.COMPLETED, _Q.FAILED, _Q.CANCELLED})


ExitStatus = Annotated[int, Rule(whole(0, 255))]
Moment = Annotated[float, Rule(number(-MOST))]
"""Monotonic seconds; before a boot's beginning where an attempt is older than the boot that drives
it."""
Slot = Annotated[int, Rule(whole(0, 10**9))]
"""A place in the shims' record file, of some hundred bytes."""

Token = Annotated[str, Rule(matching(r"[A-Za-z0-9._-]{1,48}", "a token"))]
"""An attempt's name: a part of file names and of lines of words."""


class StopReason(str, Enum):
    """Why we ended an attempt. Durable before the first signal of ours is sent."""

    TIMEOUT = "timeout"
    GLOBAL_TIMEOUT = "global_timeout"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True)
class JobState:
    """All that is remembered of one job. Wall times are seconds since the epoch, UTC.

    ``attempt`` is the number of the newest start, ``counted`` how many executions used up the
    retry budget, ``unannounced`` the interruptions in a row that nobody had announced.
    ``retry_due`` is monotonic time of the boot that the queue's record names. ``first_started_at``:
    when the first of several attempts was started. ``results_uploaded``: all that a completed job
    declared is stored, None if it declared nothing; ``logs_uploaded``: its upload is done, logs and
    what there was of results. ``stale_results``: result files older than the job's first start.
    ``collecting``: its files are on their way to the store; ``spooled``: from copies of them on
    this machine; ``restoring``: whether its results outlived a reboot is not known yet.
    ``fetching``: its inputs are on their way; ``fetched``: they are there; ``input_seconds`` of
    that time are the next attempt's. ``needs_check``: whether its checkpoint outlived a boot is not
    known yet. ``rerun``: what it depends on runs again, so it will, too, once the attempt under
    way has ended.
    ``released``: a person has let a job start that the document holds.
    ``forced``: a person wants it to run, also if nothing has changed. ``taken_from``: the run and
    attempt (``run/attempt``) in whose name the results that it has taken over are stored,
    ``origin``: the ones that made them; None where it ran itself.
    ``space_failures``: how often in a row it failed in the reserve of a full disk, uncounted.
    """

    status: JobStatus = JobStatus.PENDING
    attempt: Count = 0
    counted: Count = 0
    interruptions: Count = 0
    unannounced: Count = 0
    started_at: WallTime | None = None
    first_started_at: WallTime | None = None
    completed_at: WallTime | None = None
    duration: Seconds | None = None
    exit_code: ExitStatus | None = None
    signal: str | None = None
    timed_out: bool = False
    pid: Count | None = None
    cpu_seconds: Seconds | None = None
    max_rss_bytes: Count | None = None
    oom_killed: bool = False
    error_message: str | None = None
    reason: str | None = None
    next_attempt_at: WallTime | None = None
    retry_due: Moment | None = None
    results_uploaded: bool | None = None
    logs_uploaded: bool | None = None
    result_error: str | None = None
    stale_results: tuple[str, ...] = ()
    collecting: bool = False
    spooled: bool = False
    restoring: bool = False
    fetching: bool = False
    fetched: bool = False
    input_seconds: Seconds = 0.0
    needs_check: Annotated[bool, Rule(key="doubted")] = False
    space_failures: Count = 0
    rerun: bool = False
    background: bool = False
    live: Live | None = None
    slot: Slot | None = None
    token: Token | None = None
    released: bool = False
    forced: bool = False
    taken_from: str | None = None
    origin: str | None = None

    @property
    def has_files(self) -> bool:
        """Whether it may have left any: it has run, or has taken over what a former run left."""
        return self.attempt > 0 or self.status is JobStatus.COMPLETED

    @property
    def first_start(self) -> float | None:
        """When the job was first started in this run."""
        return self.started_at if self.first_started_at is None else self.first_started_at

    @property
    def incomplete(self) -> bool:
        """Whether files of it that should be in the store are not."""
        return self.results_uploaded is False or self.logs_uploaded is False

    @property
    def upload_done(self) -> bool:
        """Whether all that there was to store of it is stored; what it declared may be missing."""
        # Before there was logs_uploaded, results_uploaded stood for both.
        return bool(self.logs_uploaded or self.results_uploaded)

    @property
    def uploaded(self) -> bool:
        """Whether all that should be in the store is there."""
        return self.upload_done and not self.incomplete


PENDING = JobState()
"""The record of every job that nothing has happened to: shared, so that it costs nothing."""


@dataclass(frozen=True, slots=True)
class Live:
    """An attempt under way: from its intent until its whole tree is gone.

    ``since`` is the monotonic time of its claim, None while it is only an intent; ``kill_at`` the
    monotonic time of the next SIGKILL once a stop was decided. ``before`` is the record that the
    job goes back to if the start turns out never to have happened. ``over``: the command has ended
    by itself, only leftovers of its tree still go, so a stop can't claim the end for itself.
    ``last``: a person cancelled the job when this end had come or been decided: the end stands,
    but no attempt follows it. ``in_reserve``: it was started although the disk was short of space.
    ``keeps_time``: where it runs it is ended when its time is over.
    """

    token: Token
    slot: Slot
    attempt: Count
    before: JobState = PENDING
    since: Moment | None = None
    stop: StopReason | None = None
    kill_at: Moment | None = None
    killed: bool = False
    over: bool = False
    last: bool = False
    in_reserve: bool = False
    keeps_time: bool = False


@dataclass(frozen=True, slots=True)
class NoticeState:
    """One event of the queue, and one target that is to be told of it: a line of the outbox.

    ``id`` is the same for all targets, and wherever the event is met again; ``nth`` numbers the
    events of this name in the run. ``to``: the target, as it may be shown. ``status``, ``reason``
    and ``counts`` (jobs by status) are of the moment ``at``. ``told_at``: when the target took it;
    ``error``: why not, last; ``given_up``: it won't be tried again.
    """

    id: Annotated[str, Rule(matching(r"[0-9a-f]{32}", "a notice's id"))]
    event: str
    to: str
    at: WallTime
    nth: Count = 0
    job: str | None = None
    status: str = ""
    reason: str | None = None
    counts: Mapping[str, Count] = field(default_factory=dict)
    told_at: WallTime | None = None
    error: str | None = None
    given_up: bool = False

    @property
    def waits(self) -> bool:
        """Whether the target is still to be told."""
        return self.told_at is None and not self.given_up


@dataclass(frozen=True, slots=True)
class QueueState:
    """All that is remembered of the queue itself. ``worked`` is in seconds, up to ``mono``.

    ``halted`` is the failure that stopped it (``on_failure: stop``) since the last request to
    retry; ``starts`` the number of starts ever intended, void ones included; ``epoch`` numbers
    the machines and runs that have written to one result store. ``incomplete``: when the
    queue was left there were files that should have been stored. ``resumed``: what the newest
    session found, and why it was needed, for people; None in the first one. ``former``: the last
    attempt numbers of jobs that are no longer in the document, by id. ``notices``: the outbox, the
    oldest first. ``accepts_jobs``: it doesn't
    end when nothing is left to do, for more may come.
    """

    run_id: Name
    status: QueueStatus = QueueStatus.PENDING
    reason: str | None = None
    started_at: WallTime | None = None
    updated_at: WallTime | None = None
    completed_at: WallTime | None = None
    worked: Seconds = 0.0
    mono: Moment = 0.0
    boot_id: str = ""
    paused: bool = False
    cancelling: bool = False
    timed_out: bool = False
    halted: str | None = None
    starts: Count = 0
    epoch: Count = 0
    incomplete: bool = False
    resumed: str | None = None
    former: Mapping[str, Count] | None = None
    notices: tuple[NoticeState, ...] = ()
    accepts_jobs: bool = False


ON_BATCH = "batch"
"""The ``boot_id`` of a queue whose attempts run on AWS Batch: no boot of ours ends them."""

T = TypeVar("T", JobState, QueueState, Live, NoticeState)


def check_job_transition(
    job_id: str, old: JobStatus, new: JobStatus, history: Iterable[str]
) -> None:
    """Raise IllegalTransition unless the table allows it; ``history`` is only read then."""
    if new not in JOB_TRANSITIONS[old]:
        story = "\n  ".join(history) or "(nothing)"
        raise IllegalTransition(f"job {job_id!r}: {old.value} → {new.value}\n  {story}")


def check_queue_transition(old: QueueStatus, new: QueueStatus) -> None:
    """Raise IllegalTransition unless the table allows it."""
    if new not in QUEUE_TRANSITIONS[old]:
        raise IllegalTransition(f"queue: {old.value} → {new.value}")


def changed(state: T, **changes: Any) -> T:
    """What dataclasses.replace makes, in two thirds of its time: for what every step changes."""
    names, values_of = _FIELDS[type(state)]
    return type(state)(**{**dict(zip(names, values_of(state), strict=True)), **changes})


def to_record(state: JobState | QueueState | Live | NoticeState) -> dict[str, Any]:
    """What the store keeps: the fields that differ from their default, enums by value."""
    record: dict[str, Any] = {}
    _, values_of = _FIELDS[type(state)]
    for (key, default), value in zip(_stored(type(state)), values_of(state), strict=True):
        if value is default or value == default:
            continue
        if type(value) not in _PLAIN:
            if isinstance(value, Enum):
                value = value.value
            elif isinstance(value, Live | JobState):
                value = to_record(value)
            elif key == "notices":
                value = [to_record(each) for each in value]
        record[key] = value
    return record


def _stored(cls: type[Any]) -> tuple[tuple[str, Any], ...]:
    """What the fields are called in JSON, and their defaults, in the same order. A field without a
    default compares equal to nothing: MISSING stands for "always written".

    Made when the first is written: to look at a queue does without.
    """
    if (found := _KEYS.get(cls)) is None:
        rows = fields_by_key(cls).items()
        found = _KEYS[cls] = tuple((key, field.default) for key, field in rows)
    return found


_KEYS: dict[type, tuple[tuple[str, Any], ...]] = {}


def _fields_of(cls: type[Any]) -> tuple[tuple[str, ...], Callable[[Any], tuple[Any, ...]]]:
    names = tuple(field.name for field in fields(cls))
    return names, attrgetter(*names)


_FIELDS = {cls: _fields_of(cls) for cls in (Live, JobState, QueueState, NoticeState)}
"""The names of a record's fields, and what takes their values from one."""

_PLAIN = frozenset({str, int, float, bool})


def job_from_record(record: Any, name: str) -> JobState:
    """The inverse of to_record. Raises StateError, which begins with ``name``.

    A key that this version doesn't know is an error: what it says must not be forgotten.
    """
    return read(JobState, record, name, strict=True)


def queue_from_record(record: Any, name: str) -> QueueState:
    """The inverse of to_record. Raises StateError like ``job_from_record``."""
    return read(QueueState, record, name, strict=True)
