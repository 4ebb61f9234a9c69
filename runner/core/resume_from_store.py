"""A run that another machine began, as its state in the result store tells of it. Pure.

The state is for people: what it doesn't say is what costs least to be wrong about. A job that ran
is one whose machine went away; so is one that completed, if what it declared was never stored.
"""

from __future__ import annotations

from dataclasses import fields, replace

from runner.core.arrays import failed_jobs, failures
from runner.core.job_ends import failure_of
from runner.core.state_file import StateFile, StateFileJob, StateFileNotice
from runner.core.states import (
    ENDED,
    LOST,
    PENDING,
    JobState,
    JobStatus,
    Live,
    NoticeState,
    QueueState,
)
from runner.errors import StateError
from runner.model.document import JobSpec, QueueSpec
from runner.model.units import in_units


def from_stored(document: QueueSpec, stored: StateFile) -> tuple[QueueState, dict[int, JobState]]:
    """The records of an unfinished run's units, for a machine that knows nothing of it.

    They are those of another boot, so that a session opens them like any after a power cut.
    Raises StateError for a state of another document.
    """
    told = {job.job_id: job for job in stored.units()}
    units = in_units(document).jobs
    known = {job.job_id for job in units}
    # What was added may be known before the state tells of it.
    if not (told.keys() <= known and known - told.keys() <= _added(document)):
        raise StateError("its jobs are not those of its document")
    updated = stored.updated_at or 0.0
    jobs = {
        index: _job(job, told[job.job_id], stored.run_id, index, updated)
        for index, job in enumerate(units)
        if job.job_id in told
    }
    states = [jobs.get(index, PENDING) for index in range(len(units))]
    failed = failed_jobs(document, states)
    halts = failed and document.stops_after(failures(document, states))
    queue = QueueState(
        run_id=stored.run_id,
        status=stored.status,
        reason=stored.reason,
        started_at=stored.started_at,
        updated_at=updated,
        worked=stored.worked_seconds,
        paused=stored.paused,
        accepts_jobs=stored.accepts_jobs,
        halted=failure_of(failed[0]) if halts else None,
        epoch=stored.epoch,
        starts=sum(state.attempt for state in jobs.values()),
        notices=tuple(_notice(each) for each in stored.notified),
    )
    return queue, jobs


def _notice(told: StateFileNotice) -> NoticeState:
    """What was told on the other machine is known here, and what wasn't is told from here."""
    return NoticeState(**{name: getattr(told, name) for name in _NOTICE})


_NOTICE = tuple(each.name for each in fields(StateFileNotice))


def _added(document: QueueSpec) -> set[str]:
    """The names of the units of all jobs that were added."""
    if not document.added:
        return set()
    jobs = [job for job in document.jobs if job.job_id in document.added]
    return {unit.job_id for unit in in_units(replace(document, jobs=jobs)).jobs}


def _job(job: JobSpec, told: StateFileJob, run_id: str, index: int, updated: float) -> JobState:
    begun = told.attempt - (told.status is JobStatus.RUNNING)
    budget = job.retry.max_attempts if job.retry else 1
    counted = max(0, begun - told.interruptions)
    state = JobState(
        status=told.status,
        attempt=told.attempt,
        counted=min(counted, budget if told.status in ENDED else budget - 1),
        interruptions=told.interruptions,
        unannounced=told.unannounced,
        started_at=told.started_at,
        first_started_at=told.first_started_at,
        completed_at=told.completed_at,
        duration=told.duration_seconds,
        exit_code=told.exit_code,
        signal=told.signal,
        timed_out=told.timed_out,
        error_message=told.error_message,
        reason=told.reason,
        results_uploaded=told.results_uploaded,
        logs_uploaded=told.logs_uploaded,
        result_error=told.result_error,
        stale_results=told.stale_results,
        released=told.released,
    )
    if told.status is JobStatus.RUNNING:
        return replace(state, live=Live(f"{run_id[:8]}-stored-{index:x}", index, told.attempt))
    if told.status is JobStatus.COMPLETED and job.kept_paths and not state.upload_done:
        return JobState(
            attempt=told.attempt,
            first_started_at=state.first_start,
            interruptions=told.interruptions,
            reason=LOST,
            released=told.released,
        )
    due = told.next_attempt_at
    if due is not None and told.status not in ENDED:
        # What is left of the wait, on the clock of a boot that began with the state.
        state = replace(state, next_attempt_at=due, retry_due=max(0.0, due - updated))
    return state
