"""Carrying a queue's records over to a changed document (``--update``, ``--retry-failed``). Pure.

Owns which changes are accepted, and which jobs run again for them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace

from runner.core.arrays import failed_jobs, failures
from runner.core.families import Families
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
from runner.model.document import JobSpec, QueueSpec, job_difference
from runner.model.elements import size_of, split_name
from runner.model.growth import grown
from runner.model.units import in_units, unit_graph

_TOLD = 20
"""So many refused changes are told one by one."""

_AGAIN = frozenset({JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.SKIPPED})


@dataclass(frozen=True, slots=True)
class _Change:
    """One unit that isn't as it was. ``at``: its number in the new document, None if it is gone;
    ``place``: its job's; ``state``: None if it is new; ``what``: how it differs."""

    job_id: str
    at: int | None
    place: int | None
    state: JobState | None
    what: str


def carry_growth(old: QueueSpec, new: QueueSpec) -> QueueSpec:
    """The new document with what was added to the old one, as far as it stays.

    What a job has expanded to goes with it, and goes if that is another job now: then it is to
    expand again. A job that was asked for goes if one that it depends on does.
    """
    if not old.added:
        return new
    before = {job.job_id: job for job in old.jobs}
    after = {job.job_id: job for job in new.jobs}
    given = frozenset(after)
    parents: list[str | None] = []
    jobs: list[JobSpec] = []
    for job in old.jobs[len(old.jobs) - len(old.added) :]:
        parent = old.added[job.job_id]
        stays = job.job_id not in given and all(name in after for name in job.depends_on)
        if stays and parent in given:
            assert parent is not None
            was, now = before[parent], after[parent]
            stays = now.expands is not None and job_difference(old, was, new, now) is None
        if stays:
            after[job.job_id] = job
            jobs.append(job)
            parents.append(parent)
    return grown(new, jobs, parents)


def carry_over(
    old: QueueSpec, new: QueueSpec, queue: QueueState, jobs: Mapping[int, JobState], again: RunMode
) -> tuple[QueueState, dict[int, JobState]]:
    """The records for the units of ``new`` (see ``carry_growth``), with what is to run again
    pending.

    ``jobs`` are those of the units of ``old``: an element of an array is what a job is. Raises
    ConflictError naming each job that may not change so, why, and what accepts it.
    """
    changes = list(_changes(old, new, jobs))
    if refused := _refusals(changes, again):
        more = [f"… ({len(refused) - _TOLD} more)"] if refused[_TOLD:] else []
        raise ConflictError("\n".join(refused[:_TOLD] + more))
    was, now = in_units(old).jobs, in_units(new).jobs
    places = {unit.job_id: at for at, unit in enumerate(now)}
    states = [PENDING] * len(now)
    former = dict(queue.former or {})
    for index, state in jobs.items():
        job_id = was[index].job_id
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
    known = places.keys() | {job.job_id for job in new.jobs}
    states = [_without_strangers(state, known) for state in states]
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
        if not _refusals(list(_changes(old, new, jobs)), again):
            return again.flags
    return None


def _changes(old: QueueSpec, new: QueueSpec, jobs: Mapping[int, JobState]) -> Iterator[_Change]:
    """In the order of the new document; what is gone comes first."""
    resized = _resized(old, new)
    numbers = [at for at, job in enumerate(new.jobs) for _ in range(size_of(job))]
    old, new = in_units(old), in_units(new)
    there = {job.job_id for job in new.jobs}
    before = {job.job_id: index for index, job in enumerate(old.jobs)}
    for index, was in enumerate(old.jobs):
        if was.job_id not in there:
            yield _Change(was.job_id, None, None, jobs.get(index, PENDING), "it is gone")
    for at, now in enumerate(new.jobs):
        found = before.get(now.job_id)
        if found is None:
            yield _Change(now.job_id, at, numbers[at], None, "it is new")
            continue
        what = job_difference(old, old.jobs[found], new, now)
        if what is None and resized:
            what = next((resized[name] for name in now.depends_on if name in resized), None)
        if what is not None:
            yield _Change(now.job_id, at, numbers[at], jobs.get(found, PENDING), what)


def _resized(old: QueueSpec, new: QueueSpec) -> dict[str, str]:
    """The arrays that have another size, by id, and what that is to one that depends on them."""
    sizes = {job.job_id: size_of(job) for job in old.jobs if job.array is not None}
    return {
        job.job_id: f"depends_on: '{job.job_id}' had {size:,} elements and has {size_of(job):,} now"
        for job in new.jobs
        if job.array is not None and (size := sizes.get(job.job_id, size_of(job))) != size_of(job)
    }


def _refusals(changes: Sequence[_Change], again: RunMode) -> list[str]:
    """Why changes aren't accepted. Of an array the first element's stands for all like it."""
    found: dict[tuple[str, str], tuple[str, int]] = {}
    for change in changes:
        if (told := _refused(change, again)) is not None:
            job_id, index = split_name(change.job_id)
            alike = job_id, told if index is None else told.replace(change.job_id, job_id)
            first, count = found.get(alike, (told, 0))
            found[alike] = first, count + 1
    return [
        told if count == 1 else f"{told} (and {count - 1:,} more of its elements)"
        for told, count in found.values()
    ]


def _refused(change: _Change, again: RunMode) -> str | None:
    """Why this change isn't accepted, and what would accept it; None if it is."""
    place = "job" if change.place is None else f"jobs[{change.place}]"
    told = f'{place} "{change.job_id}"'
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
    units = in_units(new).jobs
    graph = unit_graph(new.jobs)
    families = Families(new.added, graph)
    taken = behind(units, graph, states, seeds, families, everything=True)
    for at in seeds | judged | taken:
        state = states[at]
        if state.status is JobStatus.RUNNING:
            states[at] = replace(state, rerun=True)
        else:
            states[at] = as_new(state)
    for at in changed:
        if states[at].needs_check and not units[at].checkpoint_paths:
            # Also of what stays as it ended: a request may have it run again later.
            states[at] = replace(states[at], needs_check=False)


def _without_strangers(state: JobState, places: Set[str]) -> JobState:
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
    if not new.may_stop or (old.may_stop and queue.halted is None):
        return None
    if not new.stops_after(failures(new, states)):
        return None
    failed = {failure_of(job_id): None for job_id in failed_jobs(new, states)}
    return queue.halted if queue.halted in failed else next(iter(failed), None)


def _reopened(new: QueueSpec, queue: QueueState, states: Sequence[JobState]) -> QueueState:
    """Running again, if it had ended and hasn't any more, or has come to something else."""
    if queue.status not in QUEUE_ENDED:
        return queue
    counts = Counter(state.status for state in states)
    if counts.keys() <= ENDED:
        unwell = counts.total() > counts[JobStatus.COMPLETED]
        judged = replace(queue, timed_out=queue.timed_out and unwell)
        if outcome_of(in_units(new), judged, counts, states) == (queue.status, queue.reason):
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
