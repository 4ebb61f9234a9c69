"""What an attempt's end means for its job. Pure.

A stop of ours that was durable before the end gives the end its reason, whatever the exit code:
a trainer that catches SIGTERM, saves and exits 0 has not completed.
"""

from __future__ import annotations

from dataclasses import replace

from runner.core import disk_space, retry
from runner.core.events import AttemptEnded, Exited, Lost, NotRunnable, Signalled
from runner.core.states import JobState, JobStatus, StopReason
from runner.model.document import JobSpec
from runner.model.durations import format_duration

_DONE = Exited(0)

_MEANS = {126: " (found, but can't be executed)", 127: " (command not found)"}
"""What a shell says by its own exit codes (POSIX, 2.8.2)."""

MAX_UNANNOUNCED = 5
"""So many interruptions in a row without a notice, and the job is taken to be their cause."""


def conclude(job: JobSpec, state: JobState, ended: AttemptEnded, global_timeout: float) -> JobState:
    """The job's record after this end; ``next_attempt_at`` is set when it is to be retried."""
    live = state.live
    assert live is not None
    if live.stop is None and ended.fan_out is not None and ended.fan_out.fault is not None:
        ended = replace(ended, outcome=NotRunnable(ended.fan_out.fault))
    if live.stop is None and ended.outcome == _DONE:
        return _result(state, ended, JobStatus.COMPLETED)
    after = _result(state, ended, JobStatus.RUNNING)
    match live.stop:
        case StopReason.CANCELLED:
            return replace(after, status=JobStatus.CANCELLED, reason="cancelled")
        case StopReason.INTERRUPTED:
            return interrupted(after, "the service or the machine was stopped", announced=True)
        case StopReason.GLOBAL_TIMEOUT:
            message = f"global timeout {format_duration(global_timeout)} exceeded"
            return replace(
                after,
                status=JobStatus.FAILED,
                timed_out=True,
                counted=after.counted + 1,
                error_message=message,
            )
        case StopReason.TIMEOUT:
            message = f"command timed out after {format_duration(job.timeout)}"
            if state.input_seconds:
                message += f", {format_duration(round(state.input_seconds, 3))} of it for inputs"
            return _counted(job, replace(after, timed_out=True), ended, message)
        case None if disk_space.failed_for_space(state, ended):
            return disk_space.uncounted(after, ended, _message(after, ended))
        case None:
            return _by_itself(job, after, ended)


def _result(state: JobState, ended: AttemptEnded, status: JobStatus) -> JobState:
    """What is known whatever the end means. Made anew, not replaced: every attempt comes by."""
    outcome, usage = ended.outcome, ended.usage
    return JobState(
        status=status,
        attempt=state.attempt,
        counted=state.counted,
        interruptions=state.interruptions,
        unannounced=0 if status is JobStatus.COMPLETED else state.unannounced,
        started_at=state.started_at,
        first_started_at=state.first_started_at,
        completed_at=ended.now.wall if ended.ended_at is None else ended.ended_at,
        duration=ended.duration,
        exit_code=outcome.code if isinstance(outcome, Exited) else None,
        signal=outcome.signal if isinstance(outcome, Signalled) else None,
        cpu_seconds=usage.cpu_seconds if usage else None,
        max_rss_bytes=usage.max_rss if usage else None,
        oom_killed=bool(usage and usage.oom_kills),
        fetched=state.fetched,
        needs_check=state.needs_check,
        released=state.released,
        space_failures=0 if status is JobStatus.COMPLETED else state.space_failures,
    )


def _by_itself(job: JobSpec, after: JobState, ended: AttemptEnded) -> JobState:
    match ended.outcome:
        case Exited() | Signalled():
            return _counted(job, after, ended, _message(after, ended))
        case NotRunnable(message):
            return replace(
                after, status=JobStatus.FAILED, counted=after.counted + 1, error_message=message
            )
        case Lost(machine, announced, why):
            gone = "the machine went away" if machine else "its supervising process was killed"
            return interrupted(after, why or gone, announced=announced)


def _message(after: JobState, ended: AttemptEnded) -> str:
    if after.oom_killed:
        # Also an exit: the shell, or the trainer's parent, outlived who was killed.
        return _out_of_memory(ended)
    if isinstance(ended.outcome, Signalled):
        return f"command killed by signal {ended.outcome.signal}"
    code = ended.outcome.code if isinstance(ended.outcome, Exited) else "unknown"
    means = _MEANS.get(code, "") if isinstance(code, int) else ""
    return f"command execution failed: exit status {code}{means}"


def _out_of_memory(ended: AttemptEnded) -> str:
    message = "out of memory: the kernel killed it"
    if ended.usage and ended.usage.max_rss:
        message += f" at {ended.usage.max_rss / 2**30:.1f} GiB"
    code = f" (exit status {ended.outcome.code})" if isinstance(ended.outcome, Exited) else ""
    return message + code


def interrupted(after: JobState, why: str, *, announced: bool) -> JobState:
    """An interruption never counts, until so many in a row look like the job's own doing."""
    unannounced = 0 if announced else after.unannounced + 1
    after = replace(after, interruptions=after.interruptions + 1, unannounced=unannounced)
    if unannounced >= MAX_UNANNOUNCED:
        message = f"interrupted {unannounced} times in a row without notice: {why}"
        return replace(after, status=JobStatus.FAILED, error_message=message)
    return replace(after, status=JobStatus.INTERRUPTED, reason=why)


def _counted(job: JobSpec, after: JobState, ended: AttemptEnded, message: str) -> JobState:
    after = replace(after, counted=after.counted + 1, unannounced=0, error_message=message)
    decision = retry.decide(job.retry, after.counted, ended.outcome, after.timed_out, ended.draw)
    if decision.delay is None:
        return replace(after, status=JobStatus.FAILED)
    return replace(
        after,
        status=JobStatus.PENDING,
        next_attempt_at=ended.now.wall + decision.delay,
        retry_due=ended.now.mono + decision.delay,
        # A jittered delay has sixteen digits.
        reason=f"retry {after.counted} of {_budget(job) - 1} in "
        f"{format_duration(round(decision.delay, 3))}",
    )


def _budget(job: JobSpec) -> int:
    return job.retry.max_attempts if job.retry else 1
