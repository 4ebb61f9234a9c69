"""What follows when jobs end: files are stored, a failure may halt the queue, dependents go on.

Nothing here recurses: a chain of a hundred thousand jobs may be skipped in one step.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from runner.core import job_ends
from runner.core.actions import CollectResults, EndBackground
from runner.core.queue_records import QueueRecords
from runner.core.readiness import Readiness, Skip
from runner.core.rerun import as_new
from runner.core.states import WAITING, JobState, JobStatus
from runner.model.document import QueueSpec
from runner.model.durations import format_duration


def end(records: QueueRecords, wall: float, ends: Sequence[tuple[int, JobState]]) -> None:
    """Record that these jobs have ended for good, all of them before anything follows from it."""
    failed = None
    for index, state in ends:
        _record(records, wall, index, state)
        if failed is None and state.status is JobStatus.FAILED:
            failed = index
    if failed is not None and not records.halted and records.document.on_failure == "stop":
        _halt(records, wall, failed)
    settle(records, wall, [index for index, _ in ends])


def _record(records: QueueRecords, wall: float, index: int, state: JobState) -> None:
    if records.collects and state.attempt:
        state = job_ends.to_be_stored(records.document.jobs[index], state)
    old = records.jobs[index]
    if old.live is None:
        records.tell(wall, index, state.status.value, reason=state.reason)
    records.put(index, state)
    records.changes.urgent = True
    if state.collecting and not old.collecting:
        records.act(CollectResults(index))


def settle(records: QueueRecords, wall: float, ended: Iterable[int]) -> None:
    """Tell those who wait for these jobs, and for those that are skipped for it."""
    frontier = records.frontier
    todo = list(ended)
    while todo:
        index = todo.pop()
        for dependent in frontier.settle(index):
            if _consider(records, wall, dependent, (index,)):
                todo.append(dependent)
        for held in frontier.released(index):
            if _consider(records, wall, held):
                todo.append(held)


def _consider(records: QueueRecords, wall: float, index: int, look_at: Sequence[int] = ()) -> bool:
    """Offer a waiting job that may start; True if it was skipped: the caller has to settle it.

    ``look_at``: see Frontier.judge. What had begun and was interrupted is judged no more.
    """
    state = records.jobs[index]
    if state.status not in WAITING:
        return False
    verdict = records.frontier.judge(index, look_at)
    if isinstance(verdict, Skip) and state.status is JobStatus.PENDING:
        _record(records, wall, index, job_ends.skipped(state, verdict.reason))
        return True
    if verdict is not Readiness.WAIT:
        records.frontier.mark_ready(index)
    return False


def reconsider(records: QueueRecords, wall: float, indices: Iterable[int]) -> None:
    """See whether waiting jobs may start, or never will, whichever of their dependencies ended."""
    dependencies = records.graph.dependencies
    for index in indices:
        if _consider(records, wall, index, dependencies[index]):
            settle(records, wall, [index])


def _halt(records: QueueRecords, wall: float, failed: int) -> None:
    """``on_failure: stop``: what waits ends."""
    why = job_ends.failure_of(records.document.jobs[failed].job_id)
    records.queue = replace(records.queue, halted=why)
    records.tell(wall, None, "halted", why=why)
    end_halted(records, wall)


def end_halted(records: QueueRecords, wall: float) -> None:
    """End every pending job of a halted queue, but for those that are there for failures."""
    ends = []
    for index, state in enumerate(records.jobs):
        if state.status is JobStatus.PENDING:
            after = _halted(records, index, state)
            if after is not None:
                ends.append((index, after))
    end(records, wall, ends)


def _halted(records: QueueRecords, index: int, state: JobState) -> JobState | None:
    assert records.queue.halted is not None
    return job_ends.halted(state, records.queue.halted, records.document.jobs[index].run_if)


def give_up(records: QueueRecords, wall: float) -> None:
    """End every waiting job of a queue that is being cancelled or has run out of time."""
    ends = [
        (index, _given_up(records, state))
        for index, state in enumerate(records.jobs)
        if state.status in WAITING
    ]
    end(records, wall, ends)


def _given_up(records: QueueRecords, state: JobState) -> JobState:
    if records.queue.timed_out:
        return job_ends.given_up(state, global_timeout_message(records.document))
    return job_ends.cancelled(state, "the queue was cancelled")


def forbidden(records: QueueRecords, index: int, state: JobState) -> JobState | None:
    """How a job that would go on waiting ends instead, as the queue stands; None if it may."""
    if records.ending:
        return _given_up(records, state)
    if records.halted and state.status is JobStatus.PENDING:
        return _halted(records, index, state)
    return None


def global_timeout_message(document: QueueSpec) -> str:
    """The queue's reason, and that of all that ends for it."""
    return f"global timeout {format_duration(document.global_timeout)} exceeded"


def end_background(records: QueueRecords, index: int) -> None:
    """End what the job left in the background, once."""
    state = records.jobs[index]
    assert state.token is not None and state.slot is not None
    if index not in records.told and records.act(EndBackground(index, state.token, state.slot)):
        records.told.add(index)


def run_again(
    records: QueueRecords, wall: float, indices: Iterable[int], *, reason: str | None = None
) -> None:
    """Make jobs that have ended pending, as new; those that run are to run again afterwards.

    The caller sees that they are judged anew once all their records are as they should be.
    """
    for index in indices:
        state = records.jobs[index]
        if state.live is not None:
            records.put(index, replace(state, rerun=True))
            continue
        records.put(index, replace(as_new(state), reason=reason))
        records.frontier.unsettle(index)
        if state.background:
            end_background(records, index)
    records.changes.urgent = True
