"""Results on their way to the store, as far as the order of work depends on them."""

from __future__ import annotations

from dataclasses import replace

from runner.core.actions import CollectResults
from runner.core.consequences import reconsider, settle
from runner.core.events import ResultsDelayed, ResultsStored, StoreClaimed
from runner.core.job_ends import to_be_stored
from runner.core.queue_records import QueueRecords
from runner.core.states import ENDED, JobStatus


def on_results_stored(records: QueueRecords, event: ResultsStored) -> None:
    """A job's files are stored, or can't be: who waited for that goes on."""
    index = event.job
    state = records.jobs[index]
    if not state.collecting and state.status is not JobStatus.INTERRUPTED:
        return
    if state.status is JobStatus.PENDING:
        # It was asked for again meanwhile; these were the files of its life before.
        records.put(index, replace(state, collecting=False))
        reconsider(records, event.now.wall, (index,))
        return
    due = state.status is JobStatus.COMPLETED and records.document.jobs[index].kept_paths
    after = replace(
        state,
        collecting=False,
        spooled=state.spooled and not event.ok,
        logs_uploaded=event.ok,
        results_uploaded=(event.ok and not event.missing) if due else None,
        result_error=event.error,
        stale_results=event.stale,
    )
    records.put(index, after)
    if event.missing or not event.ok:
        records.tell(event.now.wall, index, "results_incomplete", error=event.error)
    elif event.error:
        records.tell(event.now.wall, index, "results_note", note=event.error)
    settle(records, event.now.wall, [index])


def on_results_delayed(records: QueueRecords, event: ResultsDelayed) -> None:
    """It takes longer: people see why, and who waits goes on once there is a copy."""
    index = event.job
    state = records.jobs[index]
    if not (state.collecting or state.restoring):
        return
    if event.error and event.error != state.result_error:
        records.tell(event.now.wall, index, "results_delayed", error=event.error)
    error = event.error or state.result_error
    records.put(index, replace(state, result_error=error, spooled=state.spooled or event.spooled))
    if event.spooled and not state.spooled:
        records.tell(event.now.wall, index, "results_spooled")
        settle(records, event.now.wall, [index])


def on_store_claimed(records: QueueRecords, event: StoreClaimed) -> None:
    """Remember the number, so that a later owner of the store can be told from an earlier one."""
    if event.epoch != records.queue.epoch:
        records.queue = replace(records.queue, epoch=event.epoch)
        records.changes.urgent = True


def forget_store(records: QueueRecords) -> None:
    """Another store than before: what was stored is to be stored again."""
    for index, state in enumerate(records.jobs):
        if state.results_uploaded or state.logs_uploaded:
            results = False if state.results_uploaded else state.results_uploaded
            records.put(index, replace(state, logs_uploaded=False, results_uploaded=results))
    records.queue = replace(records.queue, epoch=0)


def collect_again(records: QueueRecords, wall: float) -> None:
    """Store what the sessions before have not, if this session stores at all."""
    # What ends on the way, because these have, is stored by its end.
    before = [i for i, s in enumerate(records.jobs) if s.status in ENDED or s.collecting]
    for index in before:
        state = records.jobs[index]
        ran = state.status in ENDED and state.has_files
        if state.restoring:
            continue  # first it has to be seen whether there is anything left to be stored
        if ran and records.collects and (state.collecting or not state.uploaded):
            records.frontier.unsettle(index)
            records.put(index, to_be_stored(records.document.jobs[index], state))
            records.act(CollectResults(index))
            # Logs, and files that nobody declared, hold nobody up.
            settle(records, wall, [index])
        elif state.collecting:
            records.put(index, replace(state, collecting=False))
            settle(records, wall, [index])
