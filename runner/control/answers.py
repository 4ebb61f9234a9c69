"""What answers may hold: checked where they come in, from a socket or over SSM.

A process that isn't a runner may listen on a socket's path, and what comes over SSM was cut or made
by whatever a machine has turned into. Whoever shows an answer may rely on what is checked here;
fields that it doesn't name are a later version's. Owns the shape of each request's answer.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from runner.core.state_file import Duration, Time, Told
from runner.core.states import JobStatus, QueueStatus
from runner.errors import RecordError, UnreachableError
from runner.model.records import Count, Rule, choice, read, text, whole
from runner.model.validation_errors import InvalidError


def _base64(value: Any) -> str:
    data = text(value)
    try:
        base64.b64decode(data, validate=True)
    except ValueError:
        raise InvalidError("is not base64") from None
    return data


@dataclass(frozen=True, slots=True)
class _Summary:
    status: QueueStatus
    counts: Mapping[str, Count]
    jobs_total: Count
    queue_id: str = ""
    queue_name: str = ""
    run_id: str = ""
    reason: str | None = None
    started_at: Time | None = None
    updated_at: Time | None = None
    completed_at: Time | None = None
    worked_seconds: Duration = 0.0
    paused: bool = False
    accepts_jobs: bool = False
    resumed: str | None = None
    worker: str | None = None
    queued: str | None = None
    blocked: str | None = None
    owner: str | None = None
    results_incomplete: bool = False


@dataclass(frozen=True, slots=True)
class _Job:
    job_id: str
    status: JobStatus
    attempt: Told
    started_at: Time | None = None
    completed_at: Time | None = None
    exit_code: Annotated[int, Rule(whole(0, 255))] | None = None
    signal: str | None = None
    timed_out: bool = False
    pid: Told | None = None
    error_message: str | None = None
    reason: str | None = None
    next_attempt_at: Time | None = None
    interruptions: Told = 0
    duration_seconds: Duration | None = None
    elapsed_seconds: Duration | None = None
    cpu_seconds: Duration | None = None
    max_rss_bytes: Count | None = None
    results_uploaded: bool | None = None
    logs_uploaded: bool | None = None
    result_error: str | None = None
    stale_results: tuple[str, ...] = ()
    timeout: str | None = None


@dataclass(frozen=True, slots=True)
class _Status:
    queue: _Summary
    jobs: tuple[_Job, ...] = ()
    after: Count | None = None


@dataclass(frozen=True, slots=True)
class _Event:
    event: str
    wall: float
    job: str | None = None


@dataclass(frozen=True, slots=True)
class _OneJob:
    job: _Job
    story: tuple[_Event, ...] = ()


@dataclass(frozen=True, slots=True)
class _Piece:
    data: Annotated[str, Rule(_base64)]
    offset: Count
    size: Count


@dataclass(frozen=True, slots=True)
class _Log:
    job: str
    attempt: Told
    running: bool
    streams: Mapping[str, _Piece]
    newest: Told = 0
    ended: bool = False
    attended: bool = True
    why: str | None = None


@dataclass(frozen=True, slots=True)
class _OneLog:
    """Of one stream: what versions ask for that know no others."""

    job: str
    attempt: Told
    running: bool
    data: Annotated[str, Rule(_base64)]
    offset: Count
    size: Count


@dataclass(frozen=True, slots=True)
class _Entry:
    queue_id: str
    kept_as: str | None = None
    status: QueueStatus | None = None
    error: str | None = None
    reason: str | None = None
    started_at: Time | None = None
    completed_at: Time | None = None
    paused: bool = False
    accepts_jobs: bool = False
    counts: Mapping[str, Count] = field(default_factory=dict)
    owner: str | None = None


@dataclass(frozen=True, slots=True)
class _Queues:
    queues: tuple[_Entry, ...]


@dataclass(frozen=True, slots=True)
class _OpenQueue:
    queue_id: str
    created: bool
    jobs_total: Count
    after: Count
    run_id: str
    payloads: str
    work_dir: str
    job_user: str


@dataclass(frozen=True, slots=True)
class _Changed(_Job):
    result_paths: tuple[str, ...] = ()
    shell: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Changes:
    changes: tuple[_Changed, ...]
    after: Count
    run_id: str
    status: QueueStatus


@dataclass(frozen=True, slots=True)
class _ResultPiece(_Piece):
    kind: Annotated[str, Rule(choice(("result", "refused", "none")))] = "none"


@dataclass(frozen=True, slots=True)
class _EndedJobs:
    jobs: Mapping[str, JobStatus]


@dataclass(frozen=True, slots=True)
class _Files:
    files: tuple[str, ...]


_SHAPES: dict[str, type[Any]] = {
    "status": _Status,
    "wait": _Status,
    "job": _OneJob,
    "queues": _Queues,
    "open_queue": _OpenQueue,
    "changes": _Changes,
    "read_result": _ResultPiece,
    "end_jobs": _EndedJobs,
    "result_files": _Files,
}


def checked(request: str, answer: dict[str, Any]) -> dict[str, Any]:
    """The same answer. Raises UnreachableError if it is none to this request.

    Those to what acts are a few words, which are only shown.
    """
    shape = _SHAPES.get(request)
    if request == "logs":
        shape = _Log if "streams" in answer else _OneLog
    if shape is not None:
        try:
            read(shape, answer, "what answers there is not a runner")
        except RecordError as error:
            raise UnreachableError(str(error)) from None
    return answer
