"""What follows when jobs end: files are stored, a failure may halt the queue, dependents go on.

Nothing here recurses: a chain of a hundred thousand jobs may be skipped in one step.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from runner.core import job_ends
from runner.core.actions import CollectResults, EndBackground, KeepFingerprint
from runner.core.arrays import ArrayState
from runner.core.queue_records import QueueRecords
from runner.core.readiness import Readiness, Skip
from runner.core.rerun import as_new
from runner.core.states import WAITING, JobState, JobStatus
from runner.model.document import QueueSpec
from runner.model.durations import format_duration
from runner.model.elements import element_name

HELD = "held until it is released"
"""The reason of a job that could start."""


def end(records: QueueRecords, wall: float, ends: Sequence[tuple[int, JobState]]) -> None:
    """Record that these jobs have ended for good, all of them before anything follows from it."""
    failed: str | None = None
    too_many: str | None = None
    stopped: dict[ArrayState, None] = {}
    for index, state in ends:
        _record(records, wall, index, state)
        if state.status is JobStatus.FAILED:
            tolerated = records.document.jobs[index].allow_failure
            if (array := records.arrays.of(index)) is not None:
                stopped[array] = None
                # Its elements are many: to wait for the last of them would be too late.
                if records.document.max_failures is not None and not tolerated:
                    too_many = array.job_id
            elif failed is None and not tolerated:
                failed = records.document.jobs[index].job_id
    if failed is not None:
        _halt(records, wall, failed)
    if too_many is not None and records.document.on_failure == "continue":
        _halt(records, wall, too_many)
    for array in stopped:
        _end_stopped(records, wall, array)
    settle(records, wall, [index for index, _ in ends])


def _record(records: QueueRecords, wall: float, index: int, state: JobState) -> None:
    if records.collects and state.has_files:
        state = job_ends.to_be_stored(records.document.jobs[index], state)
    old = records.jobs[index]
    if old.live is None:
        records.tell(wall, index, state.status.value, reason=state.reason)
    array = records.arrays.of(index)
    goes_on = array is not None and not array.ended
    records.put(index, state)
    if array is not None and goes_on and array.ended:
        records.ended_arrays.append(array)
    records.changes.urgent = True
    if state.collecting and not old.collecting:
        records.act(CollectResults(index))
    if state.status is JobStatus.COMPLETED and records.document.jobs[index].inputs:
        records.act(KeepFingerprint(index))


def _has_failed(array: ArrayState) -> bool:
    return array.status is JobStatus.FAILED and not array.spec.job.allow_failure


def settle(records: QueueRecords, wall: float, ended: Iterable[int]) -> None:
    """Tell those who wait for these jobs, and for those that are skipped for it."""
    frontier = records.frontier
    todo = list(ended)
    while True:
        todo += _follow_arrays(records, wall)
        if not todo:
            return
        index = todo.pop()
        for dependent in frontier.settle(index):
            if frontier.is_array(dependent):
                if not frontier.remaining[dependent]:
                    records.taken_along.discard(dependent)
                    todo.append(dependent)
            elif _consider(records, wall, dependent, (index,)):
                todo.append(dependent)
        todo += _follow_families(records, wall)
        for held in frontier.released(index):
            if _consider(records, wall, held):
                todo.append(held)


def _follow_families(records: QueueRecords, wall: float) -> list[int]:
    """What is skipped now that the last of all that some jobs had expanded to has ended."""
    frontier, skipped = records.frontier, []
    closed, frontier.closed = frontier.closed, []
    for parent in closed:
        records.taken_along.discard(~parent)
        behind = frontier.outside(parent)
        skipped += [other for other in behind if _consider(records, wall, other, (parent,))]
        held = frontier.released(parent)
        skipped += [other for other in held if _consider(records, wall, other)]
    return skipped


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
        if records.document.jobs[index].hold and not state.released:
            _hold(records, wall, index, state)
        records.frontier.mark_ready(index)
    return False


def _hold(records: QueueRecords, wall: float, index: int, state: JobState) -> None:
    """It could start, and waits for a person."""
    records.waits_for_release.add(index)
    if state.reason != HELD:
        records.put(index, replace(state, reason=HELD))
        records.tell(wall, index, "held")


def reconsider(records: QueueRecords, wall: float, indices: Iterable[int]) -> None:
    """See whether waiting jobs may start, or never will, whichever of their dependencies ended."""
    dependencies = records.graph.dependencies
    for index in indices:
        if _consider(records, wall, index, dependencies[index]):
            settle(records, wall, [index])


def _follow_arrays(records: QueueRecords, wall: float) -> list[int]:
    """What follows at once when the last element of an array has ended; what is skipped for it.

    An array that did not complete needn't have its files stored for that.
    """
    arrays, records.ended_arrays = records.ended_arrays, []
    skipped: list[int] = []
    for array in arrays:
        node = array.spec.node
        if _has_failed(array):
            _halt(records, wall, array.job_id)
        if records.frontier.status_of(node) is not JobStatus.COMPLETED:
            behind = records.graph.dependents[node]
            skipped += [other for other in behind if _consider(records, wall, other, (node,))]
        held = records.frontier.released(node)
        skipped += [other for other in held if _consider(records, wall, other)]
    return skipped


def _halt(records: QueueRecords, wall: float, failed: str) -> None:
    """``on_failure: stop``, or one failure too many: what waits ends."""
    if records.halted or not records.document.stops_after(records.failures):
        return
    why = job_ends.failure_of(failed)
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


def _end_stopped(records: QueueRecords, wall: float, array: ArrayState) -> None:
    """``array_stop``: an element has failed, so what waits of its array ends."""
    if not array.stopped or not array.counts[JobStatus.PENDING]:
        return
    waiting = ((unit, records.jobs[unit]) for unit in array.spec.units)
    ends = [
        (unit, _stopped(array, state))
        for unit, state in waiting
        if state.status is JobStatus.PENDING
    ]
    end(records, wall, ends)


def _stopped(array: ArrayState, state: JobState) -> JobState:
    why = job_ends.failure_of(element_name(array.job_id, min(array.failed)))
    return job_ends.halted(state, why, "success") or state


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
    array = records.arrays.of(index)
    if array is not None and array.stopped and state.status is JobStatus.PENDING:
        return _stopped(array, state)
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


def lifts_stop(records: QueueRecords, chosen: set[int]) -> bool:
    """Whether nothing is left of what kept skipped jobs from their turn, once these run again.

    An earlier request may have lifted the stop itself while a failure was left: the failures tell.
    """
    failed = sum(
        records.jobs[i].status is JobStatus.FAILED and not records.document.jobs[i].allow_failure
        for i in chosen
    )
    left = failed < records.failures
    if left and records.halted:
        return False
    return records.queue.timed_out or (not left and records.document.may_stop)
