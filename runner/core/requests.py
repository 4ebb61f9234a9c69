"""What people and the machine ask for: cancel, retry, pause, interrupt, kill."""

from __future__ import annotations

from dataclasses import replace

from runner.core import events as ev
from runner.core import job_ends, spot_interruption, termination
from runner.core.consequences import HELD, end, give_up, lifts_stop, reconsider, run_again
from runner.core.outputs import doubt_needed
from runner.core.queue_records import QueueRecords
from runner.core.rerun import behind
from runner.core.states import (
    QUEUE_ENDED,
    RETRIED,
    WAITING,
    JobStatus,
    QueueStatus,
    StopReason,
)

_RETRIED = frozenset({JobStatus.FAILED, JobStatus.SKIPPED, JobStatus.CANCELLED})


def on_cancel(records: QueueRecords, event: ev.CancelRequested) -> None:
    """End these jobs, or the queue; where everything has ended there is nothing to cancel."""
    if not (records.unended or records.queue.accepts_jobs):
        return
    records.changes.urgent = True
    if event.jobs is None:
        records.queue = replace(records.queue, cancelling=True)
        records.tell(event.now.wall, None, "cancel_requested")
        termination.stop_all(records, event.now.mono, event.now.wall, StopReason.CANCELLED)
        give_up(records, event.now.wall)
    else:
        _cancel_jobs(records, event.now, sorted(set(event.jobs)), event.waiting_only)


def _cancel_jobs(
    records: QueueRecords, now: ev.Now, indices: list[int], waiting_only: bool
) -> None:
    ends = []
    for index in indices:
        state = records.jobs[index]
        if state.live is not None:
            if not waiting_only:
                termination.stop(records, now.mono, now.wall, index, StopReason.CANCELLED)
        elif state.status in WAITING:
            ends.append((index, job_ends.cancelled(state)))
    end(records, now.wall, ends)


def on_retry(records: QueueRecords, event: ev.RetryRequested) -> None:
    """Run jobs again, with a fresh budget; the queue too, if it had ended, with a fresh clock.

    A session that has finished stays finished: the next one does the work.
    """
    again = _to_retry(records, event)
    if not again:
        return
    now, queue = event.now, records.queue
    records.changes.urgent = True
    records.tell(now.wall, None, "retry_requested", jobs=len(again))
    if event.jobs is None or records.ending or queue.status in QUEUE_ENDED:
        queue = replace(
            queue, worked=0.0, mono=now.mono, timed_out=False, cancelling=False, reason=None
        )
    records.queue = replace(queue, halted=None)
    if queue.status in QUEUE_ENDED:
        resumed = records.queue.resumed if records.open else RETRIED
        records.set_status(now.wall, QueueStatus.RUNNING, None, completed_at=None, resumed=resumed)
    asked = set(range(len(records.jobs)) if event.jobs is None else event.jobs)
    completed = [i for i in again if i in asked and records.jobs[i].status is JobStatus.COMPLETED]
    run_again(records, now.wall, again)
    for index in completed:
        records.put(index, replace(records.jobs[index], forced=True))
    doubt_needed(records, again)
    reconsider(records, now.wall, again)


def _to_retry(records: QueueRecords, event: ev.RetryRequested) -> list[int]:
    """The jobs asked for and what goes with them, in document order.

    When that takes away what had ended the whole queue, all that was skipped may run after all.
    """
    jobs, document = records.jobs, records.document.jobs
    retried = _RETRIED | {JobStatus.COMPLETED} if event.completed else _RETRIED
    wanted = range(len(jobs)) if event.jobs is None else event.jobs
    chosen = {i for i in wanted if jobs[i].status in retried}
    if not chosen:
        return []
    # Of a whole queue what was skipped may be skipped again: then it takes nothing along.
    seeds = chosen
    if event.jobs is None:
        seeds = {i for i in chosen if jobs[i].status is not JobStatus.SKIPPED}
    everything = event.jobs is None or event.dependants
    taken = behind(document, records.graph, jobs, seeds, records.families, everything=everything)
    if event.jobs is None or lifts_stop(records, chosen):
        taken |= {i for i, state in enumerate(jobs) if state.status is JobStatus.SKIPPED}
    else:
        for array in records.arrays.all:
            units = array.spec.units
            if array.stopped and all(units[at] in chosen for at in array.failed):
                taken |= {i for i in units if jobs[i].status is JobStatus.SKIPPED}
    return sorted(chosen | taken)


def on_pause(records: QueueRecords, event: ev.PauseRequested) -> None:
    """Start nothing new, or go on."""
    if records.queue.status in QUEUE_ENDED or event.paused == records.queue.paused:
        return
    records.queue = replace(records.queue, paused=event.paused)
    records.tell(event.now.wall, None, "paused" if event.paused else "unpaused")
    records.changes.urgent = True


def on_release(records: QueueRecords, event: ev.ReleaseRequested) -> None:
    """Let held jobs start; one that has ended or isn't held stays as it is."""
    for index in sorted(set(event.jobs)):
        state = records.jobs[index]
        held = records.document.jobs[index].hold and not state.released
        if not held or state.status not in WAITING:
            continue
        reason = None if state.reason == HELD else state.reason
        records.put(index, replace(state, released=True, reason=reason))
        records.tell(event.now.wall, index, "released")
        records.changes.urgent = True
        reconsider(records, event.now.wall, [index])


def on_interrupt(records: QueueRecords, event: ev.InterruptRequested) -> None:
    """End what runs so that it can be taken up again; asked again, it can only get shorter."""
    if records.finished:
        return
    now = event.now
    records.taken_over = records.taken_over or event.taken_over
    if not records.interrupting or records.departure is not None:
        records.interrupting = event.reason
        what = "taken_over" if event.taken_over else "interrupt_requested"
        records.tell(now.wall, None, what, why=event.reason)
        records.changes.urgent = True
    limits = (event.grace, spot_interruption.overtake(records, now))
    grace = min((limit for limit in limits if limit is not None), default=None)
    termination.stop_all(records, now.mono, now.wall, StopReason.INTERRUPTED, grace)


def on_kill(records: QueueRecords, event: ev.KillRequested) -> None:
    """No more grace for what is being ended."""
    for index in sorted(records.live):
        termination.kill(records, event.now.mono, index)
