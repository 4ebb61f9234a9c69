"""Results on their way to the store, as far as the order of work depends on them."""

from __future__ import annotations

from dataclasses import replace

from runner.core.actions import CollectResults
from runner.core.closing import to_be_stored
from runner.core.ending import reconsider, settle
from runner.core.events import ResultsDelayed, ResultsStored, StoreClaimed
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
    due = state.status is JobStatus.COMPLETED and ledger.document.jobs[index].result_paths
    after = replace(
        state,
        collecting=False,
        spooled=state.spooled and not event.ok,
        logs_uploaded=event.ok,
        results_uploaded=(event.ok and not event.missing) if due else None,
        result_error=event.error,
        stale_results=event.stale,
    )
    ledger.put(index, after)
    if event.missing or not event.ok:
        ledger.tell(event.now.wall, index, "results_incomplete", error=event.error)
    elif event.error:
        ledger.tell(event.now.wall, index, "results_note", note=event.error)
    settle(ledger, event.now.wall, [index])


def on_results_delayed(ledger: Ledger, event: ResultsDelayed) -> None:
    """It takes longer: people see why, and who waits goes on once there is a copy."""
    index = event.job
    state = ledger.jobs[index]
    if not (state.collecting or state.restoring):
        return
    if event.error and event.error != state.result_error:
        ledger.tell(event.now.wall, index, "results_delayed", error=event.error)
    error = event.error or state.result_error
    ledger.put(index, replace(state, result_error=error, spooled=state.spooled or event.spooled))
    if event.spooled and not state.spooled:
        ledger.tell(event.now.wall, index, "results_spooled")
        settle(ledger, event.now.wall, [index])


def on_store_claimed(ledger: Ledger, event: StoreClaimed) -> None:
    """Remember the number, so that a later owner of the store can be told from an earlier one."""
    if event.epoch != ledger.queue.epoch:
        ledger.queue = replace(ledger.queue, epoch=event.epoch)
        ledger.changes.urgent = True


def forget_store(ledger: Ledger) -> None:
    """Another store than before: what was stored is to be stored again."""
    for index, state in enumerate(ledger.jobs):
        if state.results_uploaded or state.logs_uploaded:
            results = False if state.results_uploaded else state.results_uploaded
            ledger.put(index, replace(state, logs_uploaded=False, results_uploaded=results))
    ledger.queue = replace(ledger.queue, epoch=0)


def collect_again(ledger: Ledger, wall: float) -> None:
    """Store what the sessions before have not, if this session stores at all."""
    # What ends on the way, because these have, is stored by its end.
    before = [i for i, s in enumerate(ledger.jobs) if s.status in ENDED or s.collecting]
    for index in before:
        state = ledger.jobs[index]
        ran = state.status in ENDED and state.attempt > 0
        if state.restoring:
            continue  # first it has to be seen whether there is anything left to be stored
        if ran and ledger.collects and (state.collecting or not state.uploaded):
            ledger.frontier.unsettle(index)
            ledger.put(index, to_be_stored(ledger.document.jobs[index], state))
            ledger.act(CollectResults(index))
            # Logs, and files that nobody declared, hold nobody up.
            settle(ledger, wall, [index])
        elif state.collecting:
            ledger.put(index, replace(state, collecting=False))
            settle(ledger, wall, [index])
