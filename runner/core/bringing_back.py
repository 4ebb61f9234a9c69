"""What a database has lost, as ``queue-state.json`` beside it still tells. Pure.

The file is written after each commit, so what it says was durable once: a job that it calls
completed has completed. What it doesn't say (whose attempt is which) the record of attempts does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from runner.core.events import Now
from runner.core.state_file import StateFile
from runner.core.states import ENDED, JobState, JobStatus, Live, QueueState
from runner.core.taking_over import from_stored
from runner.model.document import Queue

ANOTHER_BOOT = "another"
"""For the id of a boot of which nothing is known but that it isn't this one."""


@dataclass(frozen=True, slots=True)
class OnRecord:
    """An attempt of this boot; ``since`` is the boot's monotonic time of its claim."""

    token: str
    slot: int
    since: float


def bring_back(
    document: Queue,
    told: StateFile,
    attempts: Mapping[int, OnRecord],
    now: Now,
    boot_id: str,
) -> tuple[QueueState, dict[int, JobState]]:
    """The records that the file tells of. ``attempts``: those of this boot, by their command's pid.

    Without any of this boot, what ran has gone with the machine. Raises StateError for a state of
    another document.
    """
    # An upload that wasn't done is done again from the files: they are where they were made.
    stored = tuple(
        replace(job, logs_uploaded=True) if job.status is JobStatus.COMPLETED else job
        for job in told.jobs
    )
    queue, jobs = from_stored(document, replace(told, jobs=stored))
    by_id = {job.job_id: job for job in told.jobs}
    free = 1 + max((attempt.slot for attempt in attempts.values()), default=-1)
    for index, state in jobs.items():
        described = by_id[document.jobs[index].job_id]
        state = replace(state, logs_uploaded=described.logs_uploaded)
        if attempts:
            attempt = attempts.get(described.pid or 0)
            if state.live is not None and attempt is None:
                attempt = OnRecord(state.live.token, free, 0.0)
                free += 1
            state = _in_this_boot(state, attempt, described.pid, now)
        jobs[index] = state
    if attempts:
        return replace(queue, boot_id=boot_id, mono=now.mono), jobs
    return replace(queue, boot_id=ANOTHER_BOOT), jobs


def _in_this_boot(state: JobState, attempt: OnRecord | None, pid: int | None, now: Now) -> JobState:
    """With its waits on this boot's clock, and its attempt as one to be found."""
    if state.live is not None and attempt is not None:
        before = JobState(
            attempt=state.attempt - 1,
            counted=state.counted,
            interruptions=state.interruptions,
            unannounced=state.unannounced,
            first_started_at=state.first_started_at,
            fetched=True,
        )
        live = Live(attempt.token, attempt.slot, state.attempt, before, since=attempt.since)
        return replace(state, live=live, pid=pid, fetched=True)
    if state.retry_due is not None and state.status not in ENDED:
        assert state.next_attempt_at is not None
        left = min(state.retry_due, max(0.0, state.next_attempt_at - now.wall))
        return replace(state, retry_due=now.mono + left, next_attempt_at=now.wall + left)
    return state
