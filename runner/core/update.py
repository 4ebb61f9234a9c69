"""Carrying a queue's records over to a changed document (``--update``, ``--retry-failed``). Pure.

Owns which changes are accepted, and which jobs run again for them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from runner.core.job_ends import failed_job_in, failure_of
from runner.core.queue_outcome import outcome_of
from runner.core.rerun import as_new, behind
from runner.core.run_mode import RunMode
from runner.core.states import (
    CHANGED,
    ENDED,
    PENDING,
    QUEUE_ENDED,
    JobState,
    JobStatus,
    QueueState,
    QueueStatus,
)
from runner.errors import ConflictError
from runner.model.document import QueueSpec, job_difference
from runner.model.graph import Graph

_TOLD = 20
"""So many refused changes are told one by one."""

_AGAIN = frozenset({JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.SKIPPED})


@dataclass(frozen=True, slots=True)
class _Change:
    """One job that isn't as it was. ``at``: its place in the new document, None if it is gone;
    ``state``: None if it is new; ``what``: how it differs."""

    job_id: str
    at: int | None
    state: JobState | None
    what: str


def carry_over(
    old: QueueSpec, new: QueueSpec, queue: QueueState, jobs: Mapping[int, JobState], again: RunMode
) -> tuple[QueueState, dict[int, JobState]]:
    """The records for ``new``, with what is to run again pending.

    Raises ConflictError naming each job that may not change so, why, and what accepts it.
    """
    changes = list(_changes(old, new, jobs))
    refused = [told for change in changes if (told := _refused(change, again)) is not None]
    if refused:
        more = [f"… ({len(refused) - _TOLD} more)"] if refused[_TOLD:] else []
        raise ConflictError("\n".join(refused[:_TOLD] + more))
    places = {job.job_id: at for at, job in enumerate(new.jobs)}
    states = [PENDING] * len(new.jobs)
    former = dict(queue.former or {})
    for index, state in jobs.items():
        job_id = old.jobs[index].job_id
        at = places.get(job_id)
        if at is not None:
            states[at] = state
        elif state.attempt:
            former[job_id] = state.attempt
    for job_id in former.keys() & places.keys():
        # Its numbers go on: the logs and stored files of the former one are not this one's.
        states[places[job_id]] = replace(PENDING, attempt=former.pop(job_id))
    changed = {change.at for change in changes if change.at is not None}
    _run_again(new, states, changed, again)
    states = [_without_strangers(state, places) for state in states]
    queue = replace(queue, halted=_halted(old, new, queue, states), former=former or None)
    if again.retry_failed:
        queue = replace(queue, worked=0.0, timed_out=False, cancelling=False)
    return _reopened(new, queue, states), {
        at: state for at, state in enumerate(states) if state != PENDING
    }


def accepting(
    old: QueueSpec, new: QueueSpec, queue: QueueState, jobs: Mapping[int, JobState]
) -> str | None:
    """The fewest flags with which ``carry_over`` accepts the new document; None if none do."""
    for again in (
        RunMode(retry_failed=True),
        RunMode(update=True),
        RunMode(rerun_changed=True),
        RunMode(retry_failed=True, rerun_changed=True),
    ):
        if not any(_refused(change, again) for change in _changes(old, new, jobs)):
            return again.flags
    return None


def _changes(old: QueueSpec, new: QueueSpec, jobs: Mapping[int, JobState]) -> Iterator[_Change]:
    """In the order of the new document; what is gone comes first."""
    there = {job.job_id for job in new.jobs}
    before = {job.job_id: index for index, job in enumerate(old.jobs)}
    for index, was in enumerate(old.jobs):
        if was.job_id not in there:
            yield _Change(was.job_id, None, jobs.get(index, PENDING), "it is gone")
    for at, now in enumerate(new.jobs):
        found = before.get(now.job_id)
        if found is None:
            yield _Change(now.job_id, at, None, "it is new")
        elif (what := job_difference(old, old.jobs[found], new, now)) is not None:
            yield _Change(now.job_id, at, jobs.get(found, PENDING), what)


def _refused(change: _Change, again: RunMode) -> str | None:
    """Why this change isn't accepted, and what would accept it; None if it is."""
    told = f'job "{change.job_id}"' if change.at is None else f'jobs[{change.at}] "{change.job_id}"'
    state = change.state
    if state is None:
        return None if again.updates else f"{told} is new: --update accepts new jobs"
    if (doing := _doing(state)) is not None:
        does = "be removed" if change.at is None else f"change ({change.what})"
        return f"{told} {doing}, so it can't {does}; `runner cancel {change.job_id}` ends it first"
    if change.at is None:
        if state.background:
            return f"{told} has left something running, so it can't be removed"
        return None if again.updates else f"{told} is gone: --update accepts that"
    if state.status is JobStatus.COMPLETED:
        if again.rerun_changed:
            return None
        return (
            f"{told} has completed and is another now ({change.what}): --rerun-changed runs it "
            "again, with all that depends on it"
        )
    if again.updates or (again.retry_failed and state.status in _AGAIN):
        return None
    if state.status in _AGAIN:
        return f"{told} is {state.status.value} and is another now ({change.what}): --retry-failed"
    return f"{told} is another now ({change.what}): --update accepts changes before a job's start"


def _doing(state: JobState) -> str | None:
    """What keeps a job from being changed, in words; None if nothing of it is under way."""
    if state.status is JobStatus.RUNNING:
        return "is running"
    if state.status is JobStatus.INTERRUPTED:
        return "is interrupted and goes on"
    if state.status is JobStatus.PENDING and state.counted:
        return "waits for its next attempt"
    return None


def _run_again(new: QueueSpec, states: list[JobState], changed: set[int], again: RunMode) -> None:
    """Make pending what is to run (again); what runs is marked if it is to do so afterwards."""
    seeds, judged = set(), set()
    for at, state in enumerate(states):
        if state.status is JobStatus.SKIPPED:
            judged.add(at)
        elif state.status in (JobStatus.FAILED, JobStatus.CANCELLED):
            if again.retry_failed or (at in changed and state.status is JobStatus.FAILED):
                seeds.add(at)
        elif at in changed:
            (seeds if state.status is JobStatus.COMPLETED else judged).add(at)
    # What was skipped may be skipped again: only what is sure to run takes others along now, the
    # rest does when it starts.
    graph = Graph(new.jobs)
    taken = behind(new.jobs, graph, states, seeds, everything=True)
    for at in seeds | judged | taken:
        state = states[at]
        if state.status is JobStatus.RUNNING:
            states[at] = replace(state, rerun=True)
        else:
            needs_check = state.needs_check and bool(new.jobs[at].checkpoint_paths)
            states[at] = replace(as_new(state), needs_check=needs_check)


def _without_strangers(state: JobState, places: Mapping[str, int]) -> JobState:
    """Without a reason that names a job which is no longer there."""
    if (name := failed_job_in(state.reason)) is None or name in places:
        return state
    message = None if failed_job_in(state.error_message) == name else state.error_message
    return replace(state, reason=None, error_message=message)


def _halted(
    old: QueueSpec, new: QueueSpec, queue: QueueState, states: Sequence[JobState]
) -> str | None:
    """What stops the queue under the new document: a failure that stands, and would stop it.

    None also where a request to retry has lifted the stop since.
    """
    if new.on_failure != "stop" or (old.on_failure == "stop" and queue.halted is None):
        return None
    failed = {
        failure_of(new.jobs[at].job_id): None
        for at, state in enumerate(states)
        if state.status is JobStatus.FAILED
    }
    return queue.halted if queue.halted in failed else next(iter(failed), None)


def _reopened(new: QueueSpec, queue: QueueState, states: Sequence[JobState]) -> QueueState:
    """Running again, if it had ended and hasn't any more, or has come to something else."""
    if queue.status not in QUEUE_ENDED:
        return queue
    counts = Counter(state.status for state in states)
    if counts.keys() <= ENDED:
        unwell = counts.total() > counts[JobStatus.COMPLETED]
        judged = replace(queue, timed_out=queue.timed_out and unwell)
        if outcome_of(new, judged, counts, states) == (queue.status, queue.reason):
            return queue
    return replace(
        queue,
        status=QueueStatus.RUNNING,
        resumed=CHANGED,
        reason=None,
        completed_at=None,
        timed_out=False,
        cancelling=False,
    )
