"""The fleet job of an Executor, and its tasks: what they say, without any thread or connection.

Owns the template that all its tasks run, and what of a call or command is a task's own.
"""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import dataclass, replace
from typing import Any, assert_never

from runner.api.command_result import COMPLETED, FAILED, TIMED_OUT
from runner.api.fleet_worker import CALL, CODE, FETCHED_CALL, FETCHED_CODE
from runner.api.job_target import JobEnd
from runner.api.local_jobs import job_of
from runner.api.tasks import FunctionTask, Task
from runner.core.states import JobStatus
from runner.errors import ConflictError, NotFoundError, UsageError
from runner.fleet.database import FleetDatabase
from runner.fleet.records import FleetJob, FleetTask, JobOptions, TaskItem, TaskState
from runner.fleet.task_document import ITEM_FIELDS
from runner.fleet.task_news import EndedTask
from runner.fleet.task_outcome import TaskOutcome
from runner.model.messages import quoted
from runner.model.queue import InputSpec
from runner.model.serialization import dump_job
from runner.results.stores import is_s3

TEMPLATE = json.dumps(
    {
        "queue_name": "executor",
        "on_failure": "stop",
        "global_timeout": "87600h",
        "jobs": [
            {
                "job_id": "call",
                "command": 'exec "$RUNNER_PYTHON" -P -m runner.api.fleet_worker',
                "timeout": "87600h",
            }
        ],
    }
)
"""What a task runs. Its item's fields stand in place of the job's, see ``item_of``."""

_NAME = re.compile(r"[A-Za-z0-9_-]{1,70}")

_SESSIONS = "executor_sessions"
"""Of the job's configuration: how many Executors there have been."""


def check_name(name: str) -> None:
    """Raise ValueError for what can be no fleet job's name: its queues in SQS are named so, too."""
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"job: {quoted(name)} is no name of a fleet job: 1 to 70 letters, digits, - and _"
        )


def options_of(results: str, name: str) -> JobOptions:
    """Of a new job. Its results get a folder that no job before it has had: what is found there of
    a task of the same name would count as this one's."""
    where = f"{results.rstrip('/')}/{name}/{uuid.uuid4().hex[:8]}"
    return JobOptions(template=TEMPLATE, results=where, keeps_outcomes=True)


def check_job(job: FleetJob, results: str | None) -> None:
    """Raise ConflictError for a job that is no Executor's, or has its results elsewhere."""
    options = job.options
    if options.template != TEMPLATE or not options.keeps_outcomes or options.results is None:
        raise ConflictError(
            f"the fleet has a job {quoted(job.name)} with another template, which is not that of "
            "an Executor, or of another version of runner: give another name by job="
        )
    if results is not None and not options.results.startswith(f"{results.rstrip('/')}/{job.name}/"):
        raise ConflictError(
            f"job {quoted(job.name)} has its results in {options.results}, and not in {results}: "
            "give no results=, or another job="
        )


def next_session(database: FleetDatabase, name: str) -> int:
    """The number of a session of the job, which no other session has. Raises DatabaseAwayError."""
    while True:
        job = database.job(name)
        try:
            config = json.loads(job.config)
            number = int(config.get(_SESSIONS, 0)) + 1
        except (ValueError, TypeError, AttributeError):
            raise ConflictError(f"the configuration of job {quoted(name)} was changed") from None
        if database.replace_config(job, json.dumps({**config, _SESSIONS: number})):
            return number


def found_job(database: FleetDatabase, name: str) -> FleetJob | None:
    """The job of this name, if there is one."""
    try:
        return database.job(name)
    except NotFoundError:
        return None


@dataclass(slots=True)
class FollowedTask:
    """What is known of a task that a Future waits for. ``declares``: it names result files."""

    function: bool
    declares: bool = False
    started: bool = False

    @classmethod
    def of(cls, task: Task) -> FollowedTask:
        """One that is to be enqueued."""
        if isinstance(task, FunctionTask):
            return cls(True)
        return cls(False, bool(task.result_paths))

    @classmethod
    def stored(cls, task: FleetTask) -> FollowedTask:
        """One of the database."""
        return cls(CALL in task.params, "result_paths" in task.params.get(ITEM_FIELDS, ""))


def item_of(task: Task, code: str | None) -> TaskItem:
    """A call or command as a task. ``code``: the address of what a call imports from."""
    spec = job_of(task)
    params: dict[str, str] = {}
    if isinstance(task, FunctionTask):
        params[CALL] = f"{task.payload.sha256} {task.payload.where}"
        wanted = {task.payload.where: FETCHED_CALL}
        if code is not None:
            params[CODE] = code
            wanted[code] = FETCHED_CODE
        # The engine fetches them: its worker is connected to S3, and a call's process is not.
        inputs = tuple(InputSpec(s3, path) for s3, path in wanted.items() if is_s3(s3))
        # The template says what is run, and by which shell.
        placement = spec.placement._replace(shell=None)
        spec = replace(spec, placement=placement, input_paths=inputs)
    else:
        # What a command did not make is no failure of its own: its result says what there is.
        optional = tuple(replace(each, optional=True) for each in spec.result_paths)
        spec = replace(spec, result_paths=optional)
    fields: dict[str, Any] = json.loads(dump_job(spec))
    if isinstance(task, FunctionTask):
        del fields["command"]
    return TaskItem(task.id, {**params, ITEM_FIELDS: json.dumps(fields, ensure_ascii=False)})


def end_of(task: EndedTask, followed: FollowedTask) -> JobEnd:
    """How a task has ended, as its Future is told."""
    outcome = task.outcome
    if task.state is TaskState.CANCELLED:
        message = "was cancelled"
        return JobEnd(
            task.key, "cancelled", task.epoch, message=message, function=followed.function
        )
    if outcome is None:
        # It could not be run: the fleet's reason, without the count of its attempts at that.
        return JobEnd(task.key, FAILED, task.epoch, message=task.error, function=followed.function)
    return JobEnd(
        job_id=task.key,
        status=TIMED_OUT if outcome.timed_out else outcome.status,
        attempt=max(1, outcome.attempt),
        exit_code=outcome.exit_code,
        signal=outcome.signal,
        message=_message(task.key, outcome),
        function=followed.function,
        started_at=outcome.started_at,
        ended_at=outcome.ended_at,
    )


def _message(key: str, outcome: TaskOutcome) -> str | None:
    return outcome.message.removeprefix(f"{key}: ") if outcome.message else None


def status_of(task: FleetTask | None, outcome: TaskOutcome | None) -> str:
    """Where a task stands, in the words of a job's status; None: it isn't enqueued yet."""
    match task.state if task is not None else TaskState.PENDING:
        case TaskState.DONE:
            return COMPLETED if outcome is None else outcome.status
        case TaskState.TERMINAL_FAILED:
            return FAILED
        case TaskState.PENDING | TaskState.RETRYABLE_FAILED:
            return JobStatus.PENDING.value
        case TaskState.RUNNING:
            return JobStatus.RUNNING.value
        case TaskState.CANCELLED:
            return JobStatus.CANCELLED.value
        case unknown:
            assert_never(unknown)


def check_results(where: str) -> str:
    """A store as one word, absolute. Raises ValueError."""
    from pathlib import Path

    from runner.results.stores import check_folder_word, is_s3, parse_s3

    try:
        if is_s3(where):
            parse_s3(where)
            return where.removesuffix("/")
        check_folder_word(where)
    except UsageError as error:
        raise ValueError(f"results: {error}") from None
    return str(Path(where).absolute())
