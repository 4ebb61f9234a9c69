"""Which events of a queue are told to whom: the outbox, written in the step that causes them.

A line of it is an event and a target; it stays until the target was told, or nobody tries any more.
The id of an event follows from the run, the event and its job, so a machine that goes on from an
older state tells of the same event under the same id. How a target is told is for others. Pure.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

from runner.core.actions import SendNotice
from runner.core.events import NoProgress, NoticeTried
from runner.core.queue_records import QueueRecords
from runner.core.states import ENDED, JobStatus, NoticeState, QueueStatus
from runner.model.durations import format_duration
from runner.model.notify import STUCK

KEPT = 20
"""Lines that are kept beside those that wait and the newest of each event and target."""

MAX_REASON = 500
"""Characters of a reason: a message on a telephone."""


def notice_id(run_id: str, event: str, job: str | None, nth: int) -> str:
    """The id of an event. ``nth``: how many of this name the run has had before."""
    told = "\n".join((run_id, event, job or "", str(nth)))
    return hashlib.sha256(told.encode()).hexdigest()[:32]


def announce(
    records: QueueRecords,
    wall: float,
    event: str,
    *,
    job: str | None = None,
    reason: str | None = None,
) -> None:
    """Have everybody told who wants to know of such an event."""
    targets = [target for target in records.targets or () if event in target.on]
    if not targets:
        return
    queue = records.queue
    nth = 1 + max((old.nth for old in queue.notices if old.event == event), default=-1)
    counts = {status.value: n for status, n in sorted(records.job_counts.items()) if n}
    made = tuple(
        NoticeState(
            id=notice_id(queue.run_id, event, job, nth),
            event=event,
            to=target.label,
            at=wall,
            nth=nth,
            job=job,
            status=queue.status.value,
            reason=None if reason is None else reason[:MAX_REASON],
            counts=counts,
        )
        for target in targets
    )
    records.queue = replace(queue, notices=_kept((*queue.notices, *made)))
    records.changes.urgent = True
    for notice in made:
        records.act(SendNotice(notice))


def note_failure(records: QueueRecords, wall: float) -> None:
    """A job has failed for good, and none had before that counts."""
    document, jobs = records.document, records.jobs
    for index in sorted(records.changes.jobs):
        job = document.jobs[index]
        if jobs[index].status is JobStatus.FAILED and not job.allow_failure:
            why = jobs[index].error_message or jobs[index].reason
            reason = f"job '{job.job_id}' failed" + (f": {why}" if why else "")
            announce(records, wall, "first_failure", job=job.job_id, reason=reason)
            return


def announce_incomplete(records: QueueRecords, wall: float) -> None:
    """The queue is left, and files are missing from the store."""
    named = (
        (job.job_id, state.result_error)
        for job, state in zip(records.document.jobs, records.jobs, strict=True)
        if state.incomplete and state.status in ENDED
    )
    job, why = next(named, (None, None))
    told = f"results of job '{job}' are missing" + (f": {why}" if why else "")
    announce(records, wall, "results_incomplete", job=job, reason=told)


def on_no_progress(records: QueueRecords, event: NoProgress) -> None:
    """Tell who wants to know after so long; a queue that a person has paused isn't stuck."""
    queue = records.queue
    if queue.status is not QueueStatus.RUNNING or queue.paused or records.finished:
        return
    told = f"no progress for {format_duration(event.seconds)}"
    why = records.blocked or queue.reason
    if not why and records.live:
        names = [records.document.jobs[index].job_id for index in sorted(records.live)]
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        why = f"job '{names[0]}'{more} is running"
    elif not why and records.only_held:
        why = "jobs wait for a release"
    reason = told + (f": {why}" if why else "")
    targets = records.targets
    if targets is None:
        return
    records.tell(event.now.wall, None, "queue_stuck", why=reason)
    # Others wait longer: they are told by an event of their own.
    try:
        records.targets = tuple(t for t in targets if t.stuck_after == event.seconds)
        announce(records, event.now.wall, STUCK, reason=reason)
    finally:
        records.targets = targets


def on_notice_tried(records: QueueRecords, event: NoticeTried) -> None:
    """Note what came of it; the same failure again is no news."""
    notices = records.queue.notices
    known = (n for n in notices if (n.id, n.to) == (event.id, event.to) and n.told_at is None)
    if (notice := next(known, None)) is None:
        return
    if event.error is None:
        after = replace(notice, told_at=event.now.wall, error=None, given_up=False)
        records.tell(event.now.wall, None, "notice_told", to=event.to, of=notice.event)
    elif event.final or notice.error is None:
        after = replace(notice, error=event.error, given_up=event.final)
        told = "notice_given_up" if event.final else "notice_delayed"
        records.tell(event.now.wall, None, told, to=event.to, of=notice.event, why=event.error)
    else:
        return
    changed = tuple(after if each is notice else each for each in notices)
    records.queue = replace(records.queue, notices=_kept(changed))
    records.changes.urgent = True


def tell_again(records: QueueRecords) -> None:
    """Tell what the sessions before have not told, as far as is known."""
    for notice in records.queue.notices:
        if notice.waits and records.targets is not None:
            records.act(SendNotice(notice))


def _kept(notices: tuple[NoticeState, ...]) -> tuple[NoticeState, ...]:
    """Without old lines that nothing depends on; the newest of an event numbers the next."""
    if len(notices) <= KEPT:
        return notices
    newest = {(notice.event, notice.to): notice for notice in notices}
    late = notices[-KEPT:]
    return tuple(
        notice
        for notice in notices
        if notice.waits or newest[notice.event, notice.to] is notice or notice in late
    )
