"""Whether what completed jobs made is still there for those who need it.

After a boot ``/tmp`` may be empty and an instance store blank; a person or a cleaner may remove
files at any time. So whenever work begins, and when a job is to run again, a completed job lets
nobody go on until its declared results have been looked at, and restored where they are gone. Where
they can't be, the job runs again: the one way out of ``completed`` that nobody asked for.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from runner.core.actions import CollectResults, RestoreOutputs
from runner.core.closing import to_be_stored
from runner.core.ending import reconsider, run_again, settle
from runner.core.events import OutputsChecked
from runner.core.ledger import Ledger
from runner.core.states import ENDED, GONE, LOST, JobStatus


def doubt_all(ledger: Ledger) -> None:
    """Doubt the results that an unended job needs; within a boot not those of what runs already."""
    jobs = ledger.jobs
    if ledger.ending or not _looks(ledger):
        return
    doubt_needed(
        ledger,
        (
            index
            for index, state in enumerate(jobs)
            if state.status not in ENDED and (ledger.rebooted or state.live is None)
        ),
    )


def doubt_needed(ledger: Ledger, indices: Iterable[int]) -> None:
    """Doubt the results that these jobs need, and have them looked at if work has begun."""
    if not _looks(ledger):
        return
    dependencies = ledger.graph.dependencies
    needed = {before for index in indices for before in dependencies[index]}
    for index in sorted(needed):
        state = ledger.jobs[index]
        if state.status is JobStatus.COMPLETED and _may_be_gone(ledger, index):
            ledger.frontier.unsettle(index)
            ledger.put(index, replace(state, restoring=True))
            if not ledger.rebooted:
                ledger.missed.add(index)
            ledger.act(_look(ledger, index))


def _looks(ledger: Ledger) -> bool:
    """Whether this session looks, or has to note for the next one that a boot was in between."""
    return ledger.collects or (ledger.resting and ledger.rebooted)


def _may_be_gone(ledger: Ledger, index: int) -> bool:
    """Whether it is worth a look, and nobody looks already."""
    state = ledger.jobs[index]
    if state.restoring or not ledger.document.jobs[index].result_paths:
        return False
    if ledger.open and state.collecting:
        return False  # the upload looks itself
    # Of what was not complete when it was stored nobody knows what there should be.
    return ledger.rebooted or state.collecting or bool(state.results_uploaded)


def _look(ledger: Ledger, index: int) -> RestoreOutputs:
    return RestoreOutputs(index, rebooted=index not in ledger.missed)


def check_doubted(ledger: Ledger, wall: float) -> None:
    """Have the results looked at that are doubted, by this session or by one before it."""
    for index in sorted(ledger.restoring):
        if ledger.collects:
            ledger.act(_look(ledger, index))
        elif not ledger.resting:
            # Nothing was ever stored by this session's lights: there is nothing to check against.
            _trust(ledger, wall, index)


def trust_all(ledger: Ledger, wall: float) -> None:
    """Nobody needs them any more."""
    for index in sorted(ledger.restoring):
        _trust(ledger, wall, index)


def _trust(ledger: Ledger, wall: float, index: int) -> None:
    """What the session before was about to store nobody stores here."""
    ledger.put(index, replace(ledger.jobs[index], restoring=False, collecting=False))
    settle(ledger, wall, [index])


def on_outputs_checked(ledger: Ledger, event: OutputsChecked) -> None:
    """They are all there, again perhaps; or the job has to make them again."""
    index, wall = event.job, event.now.wall
    state = ledger.jobs[index]
    if not state.restoring:
        return
    if event.lost is not None and _is_needed(ledger, index):
        _run_again(ledger, wall, index, event.lost)
        return
    error = event.lost or (None if state.uploaded else state.result_error)
    state = replace(state, restoring=False, result_error=error)
    if not state.uploaded and not state.collecting:
        state = to_be_stored(ledger.document.jobs[index], state)
    ledger.put(index, state)
    if event.restored:
        ledger.tell(wall, index, "outputs_restored", files=event.restored)
    if state.collecting:
        ledger.act(CollectResults(index))
    settle(ledger, wall, [index])


def _is_needed(ledger: Ledger, index: int) -> bool:
    """Whether a job that is still to run depends on it."""
    if ledger.ending or ledger.halted:
        return False
    return any(ledger.jobs[at].status not in ENDED for at in ledger.graph.dependents[index])


def _run_again(ledger: Ledger, wall: float, index: int, why: str) -> None:
    """What the job itself needs may be gone as well, though nobody else waited for it."""
    reason = GONE if index in ledger.missed else LOST
    ledger.put(index, replace(ledger.jobs[index], collecting=False))
    run_again(ledger, wall, [index], reason=reason)
    ledger.tell(wall, index, "outputs_lost", why=why)
    doubt_needed(ledger, [index])
    ledger.changes.urgent = True
    reconsider(ledger, wall, (index,))
