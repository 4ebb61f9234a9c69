"""Inputs on their way to a job that is otherwise ready: it holds no slot, and others go ahead.

After a boot its checkpoint comes the same way. Owns when a fetch begins, and what its end means.
How files get here is the engine's business.
"""

from __future__ import annotations

from dataclasses import replace

from runner.core import checkpoints
from runner.core.actions import FetchInputs
from runner.core.ending import end, reconsider
from runner.core.events import InputsDelayed, InputsFetched, Now
from runner.core.ledger import Ledger
from runner.core.states import ENDED, JobState, JobStatus
from runner.model.durations import format_duration

FETCHING = "fetching inputs"
RESTORING = "looking for its checkpoint"

AHEAD = 1
"""So many jobs more than may run at once have inputs on the disk, or on their way, and don't run:
a queue whose every job brings its data would otherwise fill the disk with all of it."""


def begin_fetches(ledger: Ledger, now: Now) -> None:
    """Have inputs fetched for the next jobs in document order that lack nothing else."""
    if not ledger.frontier.may_lack:
        return
    room = ledger.document.max_parallel_jobs + AHEAD - _held(ledger)
    while room > 0 and (index := ledger.frontier.take_lacking()) is not None:
        ledger.put(index, replace(ledger.jobs[index], fetching=True, reason=_doing(ledger, index)))
        if ledger.document.jobs[index].input_paths:
            ledger.tell(now.wall, index, "inputs_needed")
        ledger.act(FetchInputs(index))
        room -= 1


def _doing(ledger: Ledger, index: int) -> str:
    return FETCHING if ledger.document.jobs[index].input_paths else RESTORING


def _held(ledger: Ledger) -> int:
    """Jobs with inputs that don't run yet. One that can't start, for whatever reason, is no bar:
    it may be waiting for one that lacks its inputs."""
    jobs, frontier = ledger.jobs, ledger.frontier
    return sum(jobs[index].fetching or frontier.is_free(index) for index in ledger.ahead)


def on_inputs_fetched(ledger: Ledger, event: InputsFetched) -> None:
    """They are all there, and it may start; or it never can."""
    index, wall = event.job, event.now.wall
    state = ledger.jobs[index]
    if not state.fetching or ledger.finished:
        return
    job = ledger.document.jobs[index]
    state = replace(state, fetching=False, reason=None)
    if event.error is not None:
        _fail(ledger, wall, index, replace(state, error_message=event.error))
        return
    if job.input_paths:
        ledger.tell(wall, index, "inputs_fetched", seconds=round(event.seconds, 3))
    state = checkpoints.settled(ledger, event, state)
    counted = event.seconds if job.inputs_in_timeout else 0.0
    if counted >= job.timeout:
        message = f"timed out after {format_duration(job.timeout)}, still {FETCHING}"
        _fail(ledger, wall, index, replace(state, timed_out=True, error_message=message))
        return
    ledger.put(index, replace(state, fetched=True, input_seconds=counted))
    ledger.changes.urgent = True
    reconsider(ledger, wall, (index,))


def _fail(ledger: Ledger, wall: float, index: int, state: JobState) -> None:
    """For good: another attempt would lack them as well."""
    ledger.tell(wall, index, "inputs_failed", error=state.error_message)
    end(ledger, wall, [(index, replace(state, status=JobStatus.FAILED, completed_at=wall))])


def on_inputs_delayed(ledger: Ledger, event: InputsDelayed) -> None:
    """People see why it takes so long."""
    state = ledger.jobs[event.job]
    reason = f"{_doing(ledger, event.job)}: {event.error}"
    if state.fetching and state.reason != reason:
        ledger.put(event.job, replace(state, reason=reason))
        ledger.tell(event.now.wall, event.job, "inputs_delayed", error=event.error)


def call_off_all(ledger: Ledger) -> None:
    """What a session leaves unfetched is for the next to fetch."""
    for index in sorted(ledger.fetching):
        ledger.put(index, replace(ledger.jobs[index], fetching=False, reason=None))


def forget_all(ledger: Ledger) -> None:
    """After a boot inputs may be gone: nobody starts before that has been looked at."""
    for index, state in enumerate(ledger.jobs):
        if state.fetched and state.status not in ENDED:
            ledger.put(index, replace(state, fetched=False, input_seconds=0.0))
