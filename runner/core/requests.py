"""What people and the machine ask for: cancel, retry, pause, interrupt, kill."""

from __future__ import annotations

from dataclasses import replace

from runner.core import closing, departing, stopping
from runner.core import events as ev
from runner.core.ending import end, give_up, reconsider, run_again
from runner.core.ledger import Ledger
from runner.core.outputs import doubt_needed
from runner.core.reopening import behind
from runner.core.states import (
    QUEUE_ENDED,
    RETRIED,
    WAITING,
    JobStatus,
    QueueStatus,
    StopReason,
)

_RETRIED = frozenset({JobStatus.FAILED, JobStatus.SKIPPED, JobStatus.CANCELLED})


def on_cancel(ledger: Ledger, event: ev.CancelRequested) -> None:
    """End these jobs, or the queue; where everything has ended there is nothing to cancel."""
    if not ledger.unended:
        return
    ledger.changes.urgent = True
    if event.jobs is None:
        ledger.queue = replace(ledger.queue, cancelling=True)
        ledger.tell(event.now.wall, None, "cancel_requested")
        stopping.stop_all(ledger, event.now.mono, event.now.wall, StopReason.CANCELLED)
        give_up(ledger, event.now.wall)
    else:
        _cancel_jobs(ledger, event.now, sorted(set(event.jobs)))


def _cancel_jobs(ledger: Ledger, now: ev.Now, indices: list[int]) -> None:
    ends = []
    for index in indices:
        state = ledger.jobs[index]
        if state.live is not None:
            stopping.stop(ledger, now.mono, now.wall, index, StopReason.CANCELLED)
        elif state.status in WAITING:
            ends.append((index, closing.cancelled(state)))
    end(ledger, now.wall, ends)


def on_retry(ledger: Ledger, event: ev.RetryRequested) -> None:
    """Run jobs again, with a fresh budget; the queue too, if it had ended, with a fresh clock.

    A session that has finished stays finished: the next one does the work.
    """
    again = _to_retry(ledger, event)
    if not again:
        return
    now, queue = event.now, ledger.queue
    ledger.changes.urgent = True
    ledger.tell(now.wall, None, "retry_requested", jobs=len(again))
    if event.jobs is None or ledger.ending or queue.status in QUEUE_ENDED:
        queue = replace(
            queue, worked=0.0, mono=now.mono, timed_out=False, cancelling=False, reason=None
        )
    ledger.queue = replace(queue, halted=None)
    if queue.status in QUEUE_ENDED:
        resumed = ledger.queue.resumed if ledger.open else RETRIED
        ledger.set_status(now.wall, QueueStatus.RUNNING, None, completed_at=None, resumed=resumed)
    run_again(ledger, now.wall, again)
    doubt_needed(ledger, again)
    reconsider(ledger, now.wall, again)


def _to_retry(ledger: Ledger, event: ev.RetryRequested) -> list[int]:
    """The jobs asked for and what goes with them, in document order.

    When that takes away what had ended the whole queue, all that was skipped may run after all.
    """
    jobs, document = ledger.jobs, ledger.document.jobs
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
    taken = behind(document, ledger.graph, jobs, seeds, everything=everything)
    if event.jobs is None or _lifts_stop(ledger, chosen):
        taken |= {i for i, state in enumerate(jobs) if state.status is JobStatus.SKIPPED}
    return sorted(chosen | taken)


def _lifts_stop(ledger: Ledger, chosen: set[int]) -> bool:
    """Whether nothing is left of what kept skipped jobs from their turn.

    An earlier request may have lifted the stop itself while a failure was left: the failures tell.
    """
    failed = sum(ledger.jobs[i].status is JobStatus.FAILED for i in chosen)
    left = failed < ledger.counts[JobStatus.FAILED]
    if left and ledger.halted:
        return False
    return ledger.queue.timed_out or (not left and ledger.document.on_failure == "stop")


def on_pause(ledger: Ledger, event: ev.PauseRequested) -> None:
    """Start nothing new, or go on."""
    if ledger.queue.status in QUEUE_ENDED or event.paused == ledger.queue.paused:
        return
    ledger.queue = replace(ledger.queue, paused=event.paused)
    ledger.tell(event.now.wall, None, "paused" if event.paused else "unpaused")
    ledger.changes.urgent = True


def on_interrupt(ledger: Ledger, event: ev.InterruptRequested) -> None:
    """End what runs so that it can be taken up again; asked again, it can only get shorter."""
    if ledger.finished:
        return
    now = event.now
    if not ledger.interrupting or ledger.departure is not None:
        ledger.interrupting = event.reason
        what = "taken_over" if event.taken_over else "interrupt_requested"
        ledger.tell(now.wall, None, what, why=event.reason)
        ledger.changes.urgent = True
    limits = (event.grace, departing.overtake(ledger, now))
    grace = min((limit for limit in limits if limit is not None), default=None)
    stopping.stop_all(ledger, now.mono, now.wall, StopReason.INTERRUPTED, grace)


def on_kill(ledger: Ledger, event: ev.KillRequested) -> None:
    """No more grace for what is being ended."""
    for index in sorted(ledger.live):
        stopping.kill(ledger, event.now.mono, index)
