"""After a new boot: whether what completed jobs made is still there for those who need it.

``/tmp`` may be a tmpfs and an instance store comes back blank, so a completed job lets nobody go on
until its declared results have been looked at, and restored where they are gone. Where they can't
be, the job runs again: the one way out of ``completed`` that nobody asked for.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from runner.core.actions import CollectResults, RestoreOutputs
from runner.core.closing import to_be_stored
from runner.core.ending import reconsider, run_again, settle
from runner.core.events import OutputsChecked
from runner.core.ledger import Ledger
from runner.core.states import ENDED, LOST, JobStatus


def doubt_all(ledger: Ledger) -> None:
    """Doubt the results that an unended job needs, for the machine has been down."""
    jobs = ledger.jobs
    if ledger.ending:
        return
    needed = {
        before
        for index, state in enumerate(jobs)
        if state.status not in ENDED
        for before in ledger.graph.dependencies[index]
    }
    _doubt(ledger, needed)


def _doubt(ledger: Ledger, indices: Iterable[int]) -> list[int]:
    doubted = []
    for index in sorted(indices):
        state = ledger.jobs[index]
        declares = ledger.document.jobs[index].result_paths
        if state.status is JobStatus.COMPLETED and declares and not state.restoring:
            ledger.frontier.unsettle(index)
            ledger.put(index, replace(state, restoring=True))
            doubted.append(index)
    return doubted


def check_doubted(ledger: Ledger, wall: float) -> None:
    """Have the results looked at that are doubted, by this session or by one before it."""
    for index, state in enumerate(ledger.jobs):
        if not state.restoring:
            continue
        if ledger.collects:
            ledger.act(RestoreOutputs(index))
        else:
            # Nothing was ever stored by this session's lights: there is nothing to check against,
            # and nobody to store what the session before was about to.
            ledger.put(index, replace(state, restoring=False, collecting=False))
            settle(ledger, wall, [index])


def on_outputs_checked(ledger: Ledger, event: OutputsChecked) -> None:
    """They are all there, again perhaps; or the job has to make them again."""
    index, wall = event.job, event.now.wall
    state = ledger.jobs[index]
    if not state.restoring:
        return
    if event.lost is not None and not (ledger.ending or ledger.halted):
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


def _run_again(ledger: Ledger, wall: float, index: int, why: str) -> None:
    """What the job itself needs may be gone as well, though nobody else waited for it."""
    ledger.put(index, replace(ledger.jobs[index], collecting=False))
    run_again(ledger, wall, [index], reason=LOST)
    ledger.tell(wall, index, "outputs_lost", why=why)
    for before in _doubt(ledger, ledger.graph.dependencies[index]):
        ledger.act(RestoreOutputs(before))
    ledger.changes.urgent = True
    reconsider(ledger, wall, (index,))
