"""What follows when jobs end: files are stored, a failure may halt the queue, dependents go on.

Nothing here recurses: a chain of a hundred thousand jobs may be skipped in one step.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from runner.core import closing
from runner.core.actions import CollectResults, EndBackground
from runner.core.ledger import Ledger
from runner.core.readiness import Readiness, Skip
from runner.core.reopening import as_new
from runner.core.states import WAITING, JobState, JobStatus
from runner.model.document import QueueSpec
from runner.model.durations import format_duration


def end(ledger: Ledger, wall: float, ends: Sequence[tuple[int, JobState]]) -> None:
    """Record that these jobs have ended for good, all of them before anything follows from it."""
    failed = None
    for index, state in ends:
        _record(ledger, wall, index, state)
        if failed is None and state.status is JobStatus.FAILED:
            failed = index
    if failed is not None and not ledger.halted and ledger.document.on_failure == "stop":
        _halt(ledger, wall, failed)
    settle(ledger, wall, [index for index, _ in ends])


def _record(ledger: Ledger, wall: float, index: int, state: JobState) -> None:
    if ledger.collects and state.attempt:
        state = closing.to_be_stored(ledger.document.jobs[index], state)
    old = ledger.jobs[index]
    if old.live is None:
        ledger.tell(wall, index, state.status.value, reason=state.reason)
    ledger.put(index, state)
    ledger.changes.urgent = True
    if state.collecting and not old.collecting:
        ledger.act(CollectResults(index))


def settle(ledger: Ledger, wall: float, ended: Iterable[int]) -> None:
    """Tell those who wait for these jobs, and for those that are skipped for it."""
    frontier = ledger.frontier
    todo = list(ended)
    while todo:
        index = todo.pop()
        for dependent in frontier.settle(index):
            if _consider(ledger, wall, dependent, (index,)):
                todo.append(dependent)
        for held in frontier.released(index):
            if _consider(ledger, wall, held):
                todo.append(held)


def _consider(ledger: Ledger, wall: float, index: int, look_at: Sequence[int] = ()) -> bool:
    """Offer a waiting job that may start; True if it was skipped: the caller has to settle it.

    ``look_at``: see Frontier.judge. What had begun and was interrupted is judged no more.
    """
    state = ledger.jobs[index]
    if state.status not in WAITING:
        return False
    verdict = ledger.frontier.judge(index, look_at)
    if isinstance(verdict, Skip) and state.status is JobStatus.PENDING:
        _record(ledger, wall, index, closing.skipped(state, verdict.reason))
        return True
    if verdict is not Readiness.WAIT:
        ledger.frontier.offer(index)
    return False


def reconsider(ledger: Ledger, wall: float, indices: Iterable[int]) -> None:
    """See whether waiting jobs may start, or never will, whichever of their dependencies ended."""
    dependencies = ledger.graph.dependencies
    for index in indices:
        if _consider(ledger, wall, index, dependencies[index]):
            settle(ledger, wall, [index])


def _halt(ledger: Ledger, wall: float, failed: int) -> None:
    """``on_failure: stop``: what waits ends."""
    why = closing.failure_of(ledger.document.jobs[failed].job_id)
    ledger.queue = replace(ledger.queue, halted=why)
    ledger.tell(wall, None, "halted", why=why)
    end_halted(ledger, wall)


def end_halted(ledger: Ledger, wall: float) -> None:
    """End every pending job of a halted queue, but for those that are there for failures."""
    ends = []
    for index, state in enumerate(ledger.jobs):
        if state.status is JobStatus.PENDING:
            after = _halted(ledger, index, state)
            if after is not None:
                ends.append((index, after))
    end(ledger, wall, ends)


def _halted(ledger: Ledger, index: int, state: JobState) -> JobState | None:
    assert ledger.queue.halted is not None
    return closing.halted(state, ledger.queue.halted, ledger.document.jobs[index].run_if)


def give_up(ledger: Ledger, wall: float) -> None:
    """End every waiting job of a queue that is being cancelled or has run out of time."""
    ends = [
        (index, _given_up(ledger, state))
        for index, state in enumerate(ledger.jobs)
        if state.status in WAITING
    ]
    end(ledger, wall, ends)


def _given_up(ledger: Ledger, state: JobState) -> JobState:
    if ledger.queue.timed_out:
        return closing.given_up(state, global_timeout_message(ledger.document))
    return closing.cancelled(state, "the queue was cancelled")


def forbidden(ledger: Ledger, index: int, state: JobState) -> JobState | None:
    """How a job that would go on waiting ends instead, as the queue stands; None if it may."""
    if ledger.ending:
        return _given_up(ledger, state)
    if ledger.halted and state.status is JobStatus.PENDING:
        return _halted(ledger, index, state)
    return None


def global_timeout_message(document: QueueSpec) -> str:
    """The queue's reason, and that of all that ends for it."""
    return f"global timeout {format_duration(document.global_timeout)} exceeded"


def end_background(ledger: Ledger, index: int) -> None:
    """End what the job left in the background, once."""
    state = ledger.jobs[index]
    assert state.token is not None and state.slot is not None
    if index not in ledger.told and ledger.act(EndBackground(index, state.token, state.slot)):
        ledger.told.add(index)


def run_again(
    ledger: Ledger, wall: float, indices: Iterable[int], *, reason: str | None = None
) -> None:
    """Make jobs that have ended pending, as new; those that run are to run again afterwards.

    The caller sees that they are judged anew once all their records are as they should be.
    """
    for index in indices:
        state = ledger.jobs[index]
        if state.live is not None:
            ledger.put(index, replace(state, rerun=True))
            continue
        ledger.put(index, replace(as_new(state), reason=reason))
        ledger.frontier.unsettle(index)
        if state.background:
            end_background(ledger, index)
    ledger.changes.urgent = True
