"""From how a job ended to what its Future gives: a value, or an exception.

Unpickling happens here: whoever may write a target's files runs code in this process.
"""

from __future__ import annotations

from typing import Any

from runner.api.command_result import CANCELLED, COMPLETED, FAILED, TIMED_OUT, CommandResult
from runner.api.job_errors import JobError, PayloadError, RemoteTraceback
from runner.api.job_target import JobEnd, JobTarget
from runner.api.payload import RESULT

SHOWN = 2000
"""Characters of a process's stderr that are in the error for it."""

COMMAND_ENDS = (COMPLETED, FAILED, TIMED_OUT, CANCELLED)


def value_of(target: JobTarget, end: JobEnd, *, check: bool) -> Any:
    """What the job has given. Raises what the function raised, JobError, PayloadError, OSError.

    ``check``: a command that failed is a JobError.
    """
    return _function_value(target, end) if end.function else _command_value(target, end, check)


def _function_value(target: JobTarget, end: JobEnd) -> Any:
    if end.status not in (COMPLETED, FAILED):
        raise job_error(end)
    payload = target.result(end)
    if payload is None:
        raise job_error(end, target.output(end).stderr)
    try:
        value = payload.load()
    except BaseException as error:  # what is loaded may call sys.exit
        told = f"job '{end.job_id}': what it returned can't be unpickled here: {error!r}"
        raise PayloadError(told) from error
    if payload.header.kind == RESULT:
        return value
    raised, told, text = value
    if raised is None:
        raised = JobError(told, end.job_id, end.status, end.exit_code)
    # Its cause and context are in the text.
    raise raised from RemoteTraceback(text)


def _command_value(target: JobTarget, end: JobEnd, check: bool) -> CommandResult:
    if end.status not in COMMAND_ENDS or (end.exit_code is None and not _ended_itself(end)):
        raise job_error(end)
    if check and end.status != COMPLETED:
        raise job_error(end)
    output = target.output(end)
    return CommandResult(
        id=end.job_id,
        status=end.status,
        exit_code=end.exit_code if end.status in (COMPLETED, FAILED) else None,
        stdout=output.stdout,
        stderr=output.stderr,
        results=output.results,
        signal=end.signal,
        message=end.message,
        truncated=output.truncated,
    )


def _ended_itself(end: JobEnd) -> bool:
    """Whether it is the command's end, and not the infrastructure's failure."""
    return end.signal is not None or end.status in (TIMED_OUT, CANCELLED)


def job_error(end: JobEnd, stderr: str = "") -> JobError:
    """The exception for a job that gave nothing; with the end of what it printed."""
    why = end.message or f"exit status {end.exit_code}"
    if end.function and end.status == COMPLETED:
        why = "its result is not there any more"
    elif end.function and end.exit_code is not None:
        why = f"its process ended without a result: {why}"
    if last := stderr.strip()[-SHOWN:]:
        why = f"{why}\nits last words on stderr:\n{last}"
    return JobError(f"job '{end.job_id}' {_how(end)}: {why}", end.job_id, end.status, end.exit_code)


def failure_of(end: JobEnd, error: BaseException | None) -> str:
    """What metrics call this end: `completed`, `cancelled`, or one of FAILURES. ``error``: what its
    Future raises."""
    if isinstance(error, PayloadError):
        return "payload"
    if error is not None and not isinstance(error, JobError):
        return "exception"
    if end.status == CANCELLED or (end.status == COMPLETED and error is None):
        return end.status
    if end.status == TIMED_OUT:
        return "timeout"
    if end.signal is not None:
        return "signal"
    return "infrastructure" if end.exit_code is None else "exit"


def failure_fields(target: JobTarget, end: JobEnd, outcome: str) -> dict[str, Any]:
    """The fields of the log's line for a job that failed; ``outcome``: one of FAILURES."""
    return {
        "job_id": end.job_id,
        "outcome": outcome,
        "target": target.name,
        "region": target.region_of(end.job_id),
        "attempt": end.attempt,
        "exit_code": end.exit_code,
        "signal": end.signal,
    }


def _how(end: JobEnd) -> str:
    return "timed out" if end.status == TIMED_OUT else end.status
