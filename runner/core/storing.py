"""Results on their way to the store, as far as the order of work depends on them."""

from __future__ import annotations

from dataclasses import replace

from runner.core.actions import CollectResults
from runner.core.ending import reconsider, settle
from runner.core.events import ResultsStored
from runner.core.ledger import Ledger
from runner.core.states import ENDED, JobStatus


def on_results_stored(ledger: Ledger, event: ResultsStored) -> None:
    """A job's files are stored, or can't be: who waited for that goes on."""
    index = event.job
    state = ledger.jobs[index]
    if not state.collecting and state.status is not JobStatus.INTERRUPTED:
        return
    if state.status is JobStatus.PENDING:
        # It was asked for again meanwhile; these were the files of its life before.
        ledger.put(index, replace(state, collecting=False))
        reconsider(ledger, event.now.wall, (index,))
        return
    after = replace(state, collecting=False, results_uploaded=event.ok, result_error=event.error)
    ledger.put(index, after)
    if event.error:
        ledger.tell(event.now.wall, index, "results_incomplete", error=event.error)
    settle(ledger, event.now.wall, [index])


def forget_store(ledger: Ledger) -> None:
    """Another store than before: what was stored is to be stored again."""
    for index, state in enumerate(ledger.jobs):
        if state.results_uploaded:
            ledger.put(index, replace(state, results_uploaded=False))


def collect_again(ledger: Ledger, wall: float) -> None:
    """Store what the sessions before have not, if this session stores at all."""
    for index, state in enumerate(ledger.jobs):
        ran = state.status in ENDED and state.attempt > 0
        if ran and ledger.collects and (state.collecting or not state.results_uploaded):
            ledger.frontier.unsettle(index)
            ledger.put(index, replace(state, collecting=True, results_uploaded=False))
            ledger.act(CollectResults(index))
            # Logs, and files that nobody declared, hold nobody up.
            settle(ledger, wall, [index])
        elif state.collecting:
            ledger.put(index, replace(state, collecting=False))
            settle(ledger, wall, [index])
