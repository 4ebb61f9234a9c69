"""What a database has lost, as ``queue-state.json`` beside it still tells. Pure.

The file is written after each commit, so what it says was durable once: a job that it calls
completed has completed. What it doesn't say (whose attempt is which) the record of attempts does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count

from runner.core.events import Now
from runner.core.resume_from_store import from_stored
from runner.core.state_file import StateFile
from runner.core.states import (
    ENDED,
    PENDING,
    WAITING,
    JobState,
    JobStatus,
    Live,
    QueueState,
)
from runner.model.document import QueueSpec
from runner.model.graph import Graph
from runner.model.units import in_units, unit_graph

ANOTHER_BOOT = "another"
"""For the id of a boot of which nothing is known but that it isn't this one."""


@dataclass(frozen=True, slots=True)
class OnRecord:
    """An attempt of this boot; ``since`` is the boot's monotonic time of its claim.

    ``work``: a job's number in the document, and the attempt's; None if the record doesn't say.
    """

    token: str
    slot: int
    since: float
    pid: int | None
    work: tuple[int, int] | None = None


def from_file(document: QueueSpec, told: StateFile) -> tuple[QueueState, dict[int, JobState]]:
    """The records that the file tells of, as those of another boot.

    Raises StateError for a state of another document.
    """
    # An upload that wasn't done is done again from the files: they are where they were made.
    by_id = {job.job_id: job for job in told.units()}
    stored = tuple(
        replace(job, logs_uploaded=True) if job.status is JobStatus.COMPLETED else job
        for job in by_id.values()
    )
    queue, jobs = from_stored(document, replace(told, jobs=stored))
    units = in_units(document).jobs
    for index, state in jobs.items():
        described = by_id[units[index].job_id]
        pid = described.pid if state.live is not None else None
        jobs[index] = replace(state, logs_uploaded=described.logs_uploaded, pid=pid)
    return replace(queue, boot_id=ANOTHER_BOOT), jobs


def with_attempts(
    document: QueueSpec,
    queue: QueueState,
    jobs: Mapping[int, JobState],
    attempts: Sequence[OnRecord],
    now: Now,
    boot_id: str,
) -> tuple[QueueState, dict[int, JobState]]:
    """The same with the attempts of this boot where they belong: the session finds them there.

    Without any of this boot nothing is changed: what ran has gone with the machine.
    """
    if not attempts:
        return queue, dict(jobs)
    graph = unit_graph(document.jobs)
    records = {index: jobs.get(index, PENDING) for index in range(graph.units)}
    other_boot = queue.boot_id != boot_id
    free = count(1 + max(attempt.slot for attempt in attempts))
    owners = {attempt.slot: attempt.token for attempt in attempts}
    for index, state in records.items():
        attempt = _found(index, state, attempts)
        if attempt is not None and state.status in WAITING:
            # It was begun after what is known of the job.
            if not all(_has_ended(graph, records, node) for node in graph.dependencies[index]):
                continue
            state = replace(state, status=JobStatus.RUNNING, attempt=state.attempt + 1)
            records[index] = _running(state, attempt)
        elif state.live is not None:
            if owners.get(state.live.slot) == state.live.token and not other_boot:
                continue
            gone = OnRecord(state.live.token, next(free), 0.0, None)
            records[index] = _running(state, attempt or gone)
        elif state.retry_due is not None and state.status not in ENDED and other_boot:
            records[index] = _waiting(state, queue.mono, now)
    known = {index: state for index, state in records.items() if state != PENDING}
    return replace(queue, boot_id=boot_id, mono=now.mono if other_boot else queue.mono), known


def _has_ended(graph: Graph, records: Mapping[int, JobState], node: int) -> bool:
    units = (node,) if node < graph.units else graph.dependencies[node]
    return all(records[unit].status in ENDED for unit in units)


def _found(index: int, state: JobState, attempts: Sequence[OnRecord]) -> OnRecord | None:
    """The attempt that the job is in: by what the record says, else by its command's pid."""
    pid = state.pid
    number = state.attempt + (state.status in WAITING)
    for attempt in attempts:
        if attempt.work == (index, number) and (state.live or state.status in WAITING):
            return attempt
        if attempt.work is None and state.live and pid is not None and attempt.pid == pid:
            return attempt
    return None


def _running(state: JobState, attempt: OnRecord) -> JobState:
    """In an attempt that is to be found, or to be found lost."""
    before = JobState(
        attempt=state.attempt - 1,
        counted=state.counted,
        interruptions=state.interruptions,
        unannounced=state.unannounced,
        first_started_at=state.first_started_at,
        fetched=True,
    )
    live = Live(attempt.token, attempt.slot, state.attempt, before, since=attempt.since)
    return replace(
        state, live=live, pid=attempt.pid, fetched=True, retry_due=None, next_attempt_at=None
    )


def _waiting(state: JobState, saved: float, now: Now) -> JobState:
    """Its wait on this boot's clock; ``saved``: what was the time on its own."""
    assert state.retry_due is not None and state.next_attempt_at is not None
    left = min(max(0.0, state.retry_due - saved), max(0.0, state.next_attempt_at - now.wall))
    return replace(state, retry_due=now.mono + left, next_attempt_at=now.wall + left)
