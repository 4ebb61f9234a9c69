"""A process takes the queue up: clocks are carried over, survivors accounted for, work begins."""

from __future__ import annotations

from dataclasses import replace

from runner.core import checkpoints, termination
from runner.core.actions import KeepFingerprint
from runner.core.clocks import catch_up
from runner.core.consequences import end_background, end_halted, give_up, reconsider
from runner.core.events import Now, SessionOpened, StateWentBack
from runner.core.inputs import call_off_all, forget_all
from runner.core.notices import tell_again
from runner.core.outputs import check_doubted, doubt_all
from runner.core.queue_records import QueueRecords
from runner.core.result_uploads import collect_again, forget_store
from runner.core.states import CHANGED, QUEUE_ENDED, RETRIED, WAITING, JobStatus, QueueStatus


def on_opened(records: QueueRecords, event: SessionOpened) -> None:
    """Bring the clocks over: waits and the time worked go on from where they were.

    Time that nobody watched is not worked, but for what attempts turn out to have done in it.
    """
    queue, now = records.queue, event.now
    same_boot = queue.boot_id == event.boot_id
    records.resuming = _why(records, same_boot=same_boot)
    records.collects, records.resting = event.collects, event.resting
    # A boot takes nothing from a queue that has made nothing.
    records.rebooted = not same_boot and records.counts[JobStatus.COMPLETED] > 0
    if event.new_store:
        forget_store(records)
    mono = queue.mono if same_boot else now.mono
    records.queue = replace(queue, mono=mono, boot_id=event.boot_id, updated_at=now.wall)
    if queue.status is QueueStatus.RUNNING and not records.ending:
        # What held it up then is looked at anew.
        records.queue = replace(records.queue, reason=None)
    call_off_all(records)
    if not same_boot:
        forget_all(records)
        _carry_waits(records, now, queue.mono)
        if event.collects or event.resting:
            checkpoints.doubt_all(records)
    doubt_all(records)
    records.tell(now.wall, None, "session_opened", same_boot=same_boot)


def on_went_back(records: QueueRecords, event: StateWentBack) -> None:
    """Say so, and give no token out again: whoever had it may still be about to begin."""
    records.queue = replace(records.queue, starts=max(records.queue.starts, event.starts))
    source = "queue-state.json" if event.brought_back else None
    records.tell(
        event.now.wall, None, "state_went_back", lost=event.lost or None, brought_back_from=source
    )
    records.changes.urgent = True


def _why(records: QueueRecords, *, same_boot: bool) -> str | None:
    """What made this session needed; None for the first one, and where nothing is left to do."""
    queue = records.queue
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


def _tell_resumed(records: QueueRecords, now: Now) -> None:
    """Say what goes on, and why that is needed."""
    asked = records.queue.resumed
    why = records.resuming or (asked if asked in (RETRIED, CHANGED) else None)
    if why is None:
        return
    counts = {
        "completed": records.counts[JobStatus.COMPLETED],
        "adopted": len(records.live),
        "interrupted": records.counts[JobStatus.INTERRUPTED],
        "pending": records.counts[JobStatus.PENDING],
    }
    told = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    records.queue = replace(records.queue, resumed=f"{why} ({told})")
    records.tell(now.wall, None, "queue_resumed", why=why, **counts)


def _carry_waits(records: QueueRecords, now: Now, saved: float) -> None:
    for index in records.frontier.waiting():
        state = records.jobs[index]
        assert state.retry_due is not None
        left = max(0.0, state.retry_due - saved)
        after = replace(state, retry_due=now.mono + left, next_attempt_at=now.wall + left)
        records.put(index, after)
        records.frontier.wait(index, now.mono + left)


def on_survivors_told(records: QueueRecords, now: Now) -> None:
    """Work may begin. An ended queue only has its unfinished uploads done again."""
    if records.live:
        catch_up(records, now.mono)
    records.queue = replace(records.queue, mono=now.mono)
    records.open = True
    tell_again(records)
    collect_again(records, now.wall)
    check_doubted(records, now.wall)
    for index, job in enumerate(records.document.jobs):
        if job.inputs and records.jobs[index].status is JobStatus.COMPLETED:
            records.act(KeepFingerprint(index))
    if records.queue.status in QUEUE_ENDED:
        return
    _tell_resumed(records, now)
    if not _cancelled_unseen(records):
        _run(records, now)
    if records.ending:
        give_up(records, now.wall)
    else:
        if records.halted:
            end_halted(records, now.wall)
        _consider_waiting(records, now)
    _repeat(records, now)


def _cancelled_unseen(records: QueueRecords) -> bool:
    """Whether the queue was cancelled before anybody worked on it."""
    return records.queue.status is QueueStatus.PENDING and records.queue.cancelling


def _run(records: QueueRecords, now: Now) -> None:
    if records.queue.status is not QueueStatus.RUNNING:
        started = records.queue.started_at or now.wall
        records.set_status(now.wall, QueueStatus.RUNNING, None, started_at=started)


def _consider_waiting(records: QueueRecords, now: Now) -> None:
    """Judge every waiting job: a changed document or the session's start may free any."""
    ended = len(records.jobs) - records.unended
    trouble = ended > records.counts[JobStatus.COMPLETED]
    remaining = records.frontier.remaining
    waiting = (
        index
        for index, state in enumerate(records.jobs)
        if state.status in WAITING and (trouble or not remaining[index])
    )
    reconsider(records, now.wall, waiting)


def _repeat(records: QueueRecords, now: Now) -> None:
    """Do again what the last session may have decided without getting to it."""
    termination.signal_again(records, now.mono)
    for index in sorted(records.background):
        if records.jobs[index].status is not JobStatus.COMPLETED:
            end_background(records, index)
