"""A process takes the queue up: clocks are carried over, survivors accounted for, work begins."""

from __future__ import annotations

from dataclasses import replace

from runner.core import checkpoints, stopping
from runner.core.clocks import catch_up
from runner.core.ending import end_background, end_halted, give_up, reconsider
from runner.core.events import Now, SessionOpened, StateWentBack
from runner.core.inputs import call_off_all, forget_all
from runner.core.ledger import Ledger
from runner.core.outputs import check_doubted, doubt_all
from runner.core.states import CHANGED, QUEUE_ENDED, RETRIED, WAITING, JobStatus, QueueStatus
from runner.core.storing import collect_again, forget_store


def on_opened(ledger: Ledger, event: SessionOpened) -> None:
    """Bring the clocks over: waits and the time worked go on from where they were.

    Time that nobody watched is not worked, but for what attempts turn out to have done in it.
    """
    queue, now = ledger.queue, event.now
    same_boot = queue.boot_id == event.boot_id
    ledger.resuming = _why(ledger, same_boot=same_boot)
    ledger.collects, ledger.resting = event.collects, event.resting
    # A boot takes nothing from a queue that has made nothing.
    ledger.rebooted = not same_boot and ledger.counts[JobStatus.COMPLETED] > 0
    if event.new_store:
        forget_store(ledger)
    mono = queue.mono if same_boot else now.mono
    ledger.queue = replace(queue, mono=mono, boot_id=event.boot_id, updated_at=now.wall)
    if queue.status is QueueStatus.RUNNING and not ledger.ending:
        # What held it up then is looked at anew.
        ledger.queue = replace(ledger.queue, reason=None)
    call_off_all(ledger)
    if not same_boot:
        forget_all(ledger)
        _carry_waits(ledger, now, queue.mono)
        if event.collects or event.resting:
            checkpoints.doubt_all(ledger)
    doubt_all(ledger)
    ledger.tell(now.wall, None, "session_opened", same_boot=same_boot)


def on_went_back(ledger: Ledger, event: StateWentBack) -> None:
    """Say so, and give no token out again: whoever had it may still be about to begin."""
    ledger.queue = replace(ledger.queue, starts=max(ledger.queue.starts, event.starts))
    source = "queue-state.json" if event.brought_back else None
    ledger.tell(
        event.now.wall, None, "state_went_back", lost=event.lost or None, brought_back_from=source
    )
    ledger.changes.urgent = True


def _why(ledger: Ledger, *, same_boot: bool) -> str | None:
    """What made this session needed; None for the first one, and where nothing is left to do."""
    queue = ledger.queue
    if queue.status is QueueStatus.INTERRUPTED:
        why = queue.reason or "an interruption"
    elif queue.status is not QueueStatus.RUNNING:
        return None
    elif queue.resumed in (RETRIED, CHANGED):
        why = queue.resumed
    elif same_boot:
        why = "the service was started again"
    else:
        why = "the machine went away without notice"
    return why if queue.boot_id else f"{why}; from the result store, on another machine or disk"


def _tell_resumed(ledger: Ledger, now: Now) -> None:
    """Say what goes on, and why that is needed."""
    asked = ledger.queue.resumed
    why = ledger.resuming or (asked if asked in (RETRIED, CHANGED) else None)
    if why is None:
        return
    counts = {
        "completed": ledger.counts[JobStatus.COMPLETED],
        "adopted": len(ledger.live),
        "interrupted": ledger.counts[JobStatus.INTERRUPTED],
        "pending": ledger.counts[JobStatus.PENDING],
    }
    told = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    ledger.queue = replace(ledger.queue, resumed=f"{why} ({told})")
    ledger.tell(now.wall, None, "queue_resumed", why=why, **counts)


def _carry_waits(ledger: Ledger, now: Now, saved: float) -> None:
    for index in ledger.frontier.waiting():
        state = ledger.jobs[index]
        assert state.retry_due is not None
        left = max(0.0, state.retry_due - saved)
        after = replace(state, retry_due=now.mono + left, next_attempt_at=now.wall + left)
        ledger.put(index, after)
        ledger.frontier.wait(index, now.mono + left)


def on_survivors_told(ledger: Ledger, now: Now) -> None:
    """Work may begin. An ended queue only has its unfinished uploads done again."""
    if ledger.live:
        catch_up(ledger, now.mono)
    ledger.queue = replace(ledger.queue, mono=now.mono)
    ledger.open = True
    collect_again(ledger, now.wall)
    check_doubted(ledger, now.wall)
    if ledger.queue.status in QUEUE_ENDED:
        return
    _tell_resumed(ledger, now)
    if not _cancelled_unseen(ledger):
        _run(ledger, now)
    if ledger.ending:
        give_up(ledger, now.wall)
    else:
        if ledger.halted:
            end_halted(ledger, now.wall)
        _consider_waiting(ledger, now)
    _repeat(ledger, now)


def _cancelled_unseen(ledger: Ledger) -> bool:
    """Whether the queue was cancelled before anybody worked on it."""
    return ledger.queue.status is QueueStatus.PENDING and ledger.queue.cancelling


def _run(ledger: Ledger, now: Now) -> None:
    if ledger.queue.status is not QueueStatus.RUNNING:
        started = ledger.queue.started_at or now.wall
        ledger.set_status(now.wall, QueueStatus.RUNNING, None, started_at=started)


def _consider_waiting(ledger: Ledger, now: Now) -> None:
    """Judge every waiting job: a changed document or the session's start may free any."""
    ended = len(ledger.jobs) - ledger.unended
    trouble = ended > ledger.counts[JobStatus.COMPLETED]
    remaining = ledger.frontier.remaining
    waiting = (
        index
        for index, state in enumerate(ledger.jobs)
        if state.status in WAITING and (trouble or not remaining[index])
    )
    reconsider(ledger, now.wall, waiting)


def _repeat(ledger: Ledger, now: Now) -> None:
    """Do again what the last session may have decided without getting to it."""
    stopping.signal_again(ledger, now.mono)
    for index in sorted(ledger.background):
        if ledger.jobs[index].status is not JobStatus.COMPLETED:
            end_background(ledger, index)
