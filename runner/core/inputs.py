"""Inputs on their way to a job that is otherwise ready: it holds no slot, and others go ahead.

After a boot its checkpoint comes the same way. Owns when a fetch begins, and what its end means.
How files get here is the engine's business.
"""

from __future__ import annotations

from dataclasses import replace

from runner.core import checkpoints
from runner.core.actions import FetchInputs
from runner.core.consequences import end, reconsider
from runner.core.events import InputsDelayed, InputsFetched, Now
from runner.core.queue_records import QueueRecords
from runner.core.states import ENDED, UNCHANGED, JobState, JobStatus
from runner.model.durations import format_duration

FETCHING = "fetching inputs"
RESTORING = "looking for its checkpoint"
LOOKING = "looking for changes"
DIFFERS = "changed: "
"""How the reason begins of a job that runs for what has changed since its last run."""

AHEAD = 1
"""So many jobs more than may run at once have inputs on the disk, or on their way, and don't run:
a queue whose every job brings its data would otherwise fill the disk with all of it."""


def begin_fetches(records: QueueRecords, now: Now) -> None:
    """Have inputs fetched for the next jobs in document order that lack nothing else."""
    if not records.frontier.may_lack:
        return
    room = records.most + AHEAD - _held(records)
    while room > 0 and (index := records.frontier.take_lacking()) is not None:
        records.put(
            index, replace(records.jobs[index], fetching=True, reason=_doing(records, index))
        )
        if records.document.jobs[index].input_paths:
            records.tell(now.wall, index, "inputs_needed")
        records.act(FetchInputs(index))
        room -= 1


def _doing(records: QueueRecords, index: int) -> str:
    job = records.document.jobs[index]
    if job.input_paths:
        return FETCHING
    return LOOKING if job.inputs and not records.jobs[index].needs_check else RESTORING


def _held(records: QueueRecords) -> int:
    """Jobs with inputs that don't run yet. One that can't start, for whatever reason, is no bar:
    it may be waiting for one that lacks its inputs."""
    jobs, frontier = records.jobs, records.frontier
    return sum(
        jobs[index].fetching or (frontier.is_free(index) and not frontier.is_held_up(index))
        for index in records.ahead
    )


def on_inputs_fetched(records: QueueRecords, event: InputsFetched) -> None:
    """They are all there, and it may start; or it never can."""
    index, wall = event.job, event.now.wall
    state = records.jobs[index]
    if not state.fetching or records.finished:
        return
    job = records.document.jobs[index]
    state = replace(state, fetching=False, reason=None)
    if event.error is not None:
        fail_for_good(records, wall, index, replace(state, error_message=event.error))
        return
    if job.input_paths:
        records.tell(wall, index, "inputs_fetched", seconds=round(event.seconds, 3))
    state = checkpoints.settled(records, event, state)
    counted = event.seconds if job.inputs_in_timeout else 0.0
    if counted >= job.timeout:
        message = f"timed out after {format_duration(job.timeout)}, still {FETCHING}"
        fail_for_good(records, wall, index, replace(state, timed_out=True, error_message=message))
        return
    if event.unchanged is not None and state.status is JobStatus.PENDING:
        _take_over(records, event, event.unchanged, state)
        return
    if event.why is not None:
        records.tell(wall, index, "runs_again", why=event.why)
        state = replace(state, reason=f"{DIFFERS}{event.why}")
    records.put(index, replace(state, fetched=True, input_seconds=counted))
    records.changes.urgent = True
    reconsider(records, wall, (index,))


def _take_over(
    records: QueueRecords, event: InputsFetched, unchanged: tuple[str, str], state: JobState
) -> None:
    """Nothing has changed since its last run: what that has left is this one's."""
    taken_from, origin = unchanged
    if event.results:
        records.tell(event.now.wall, event.job, "outputs_restored", files=event.results)
    after = replace(
        state,
        status=JobStatus.COMPLETED,
        completed_at=event.now.wall,
        reason=UNCHANGED,
        taken_from=taken_from,
        origin=origin,
    )
    end(records, event.now.wall, [(event.job, after)])


def fail_for_good(records: QueueRecords, wall: float, index: int, state: JobState) -> None:
    """For good: another attempt would lack them as well."""
    records.tell(wall, index, "inputs_failed", error=state.error_message)
    end(records, wall, [(index, replace(state, status=JobStatus.FAILED, completed_at=wall))])


def on_inputs_delayed(records: QueueRecords, event: InputsDelayed) -> None:
    """People see why it takes so long."""
    state = records.jobs[event.job]
    reason = f"{_doing(records, event.job)}: {event.error}"
    if state.fetching and state.reason != reason:
        records.put(event.job, replace(state, reason=reason))
        records.tell(event.now.wall, event.job, "inputs_delayed", error=event.error)


def call_off_all(records: QueueRecords) -> None:
    """What a session leaves unfetched is for the next to fetch."""
    for index in sorted(records.fetching):
        records.put(index, replace(records.jobs[index], fetching=False, reason=None))


def forget_all(records: QueueRecords) -> None:
    """After a boot inputs may be gone: nobody starts before that has been looked at."""
    for index, state in enumerate(records.jobs):
        if state.fetched and state.status not in ENDED:
            records.put(index, replace(state, fetched=False, input_seconds=0.0))
