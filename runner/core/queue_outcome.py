"""When a session of work is over, and what the queue has come to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from runner.core.actions import FinishQueue
from runner.core.consequences import end_background, global_timeout_message
from runner.core.events import Now
from runner.core.inputs import call_off_all
from runner.core.job_ends import failure_of
from runner.core.notices import announce, announce_incomplete
from runner.core.outputs import trust_all
from runner.core.queue_records import QueueRecords
from runner.core.states import (
    ENDED,
    QUEUE_ENDED,
    JobState,
    JobStatus,
    QueueState,
    QueueStatus,
)
from runner.model.document import QueueSpec
from runner.model.elements import split_name


def finish_if_done(records: QueueRecords, now: Now) -> None:
    """Finish when nothing is left to do, or nothing but what an interruption leaves for later.

    Unfinished uploads are left for later too: the interrupted queue is taken up again for them.
    """
    if records.live:
        return
    if records.resting and not records.unended:
        trust_all(records, now.wall)
    if _part_is_done(records):
        records.interrupting = ONLY_PART
    stays = records.queue.accepts_jobs and not records.ending
    if stays and not records.interrupting:
        return
    left = bool(records.unended or records.collecting or records.restoring)
    if left and not records.interrupting:
        return
    for index in sorted(records.background):
        end_background(records, index)
    if records.background:
        return
    if records.queue.status not in QUEUE_ENDED:
        if left or stays:
            call_off_all(records)
            records.set_status(now.wall, QueueStatus.INTERRUPTED, records.interrupting)
            if not records.taken_over and records.interrupting != ONLY_PART:
                announce(records, now.wall, "interrupted", reason=records.interrupting)
        else:
            status, reason = verdict(records)
            records.set_status(now.wall, status, reason, completed_at=now.wall, **_AS_ENDED)
            announce(records, now.wall, status.value, reason=reason)
    incomplete = any(s.incomplete and s.status in ENDED for s in records.jobs)
    if incomplete is not records.queue.incomplete:
        records.queue = replace(records.queue, incomplete=incomplete)
        records.changes.urgent = True
        if incomplete:
            announce_incomplete(records, now.wall)
    records.act(FinishQueue(records.queue.status))
    records.finished = True


_AS_ENDED = {"paused": False, "accepts_jobs": False}

ONLY_PART = "only a part of it was asked for"
"""The reason of a queue whose session was to start some of its jobs."""


def _part_is_done(records: QueueRecords) -> bool:
    """Whether nothing goes on of the jobs that this session was to start, and others are left."""
    chosen = records.frontier.chosen
    if chosen is None or records.interrupting or not (records.open and records.unended):
        return False
    goes_on = (
        records.collecting
        or records.restoring
        or records.fetching
        or records.queue.paused
        or records.blocked
        or not chosen.isdisjoint(records.waits_for_release)
    )
    return not goes_on and not any(index in chosen for index in records.frontier.waiting())


def verdict(records: QueueRecords) -> tuple[QueueStatus, str | None]:
    """What a queue whose jobs have all ended has come to, and why."""
    return outcome_of(records.document, records.queue, records.counts, records.jobs)


def outcome_of(
    document: QueueSpec, queue: QueueState, counts: Counter[JobStatus], jobs: Sequence[JobState]
) -> tuple[QueueStatus, str | None]:
    """The status and the reason of a queue whose units, ``document``'s jobs, have all ended."""
    if queue.timed_out:
        return QueueStatus.FAILED, global_timeout_message(document)
    if queue.cancelling and counts[JobStatus.CANCELLED]:
        return QueueStatus.CANCELLED, "cancelled"
    tolerated = 0
    if counts[JobStatus.FAILED]:
        all_failed = [
            job
            for job, state in zip(document.jobs, jobs, strict=True)
            if state.status is JobStatus.FAILED
        ]
        failed = dict.fromkeys(
            split_name(job.job_id)[0] for job in all_failed if not job.allow_failure
        )
        tolerated = len(all_failed)
    if counts[JobStatus.FAILED] and failed:
        more = f" ({len(failed) - 1} more failed)" if len(failed) > 1 else ""
        return QueueStatus.FAILED, failure_of(next(iter(failed))) + more
    if counts[JobStatus.CANCELLED]:
        return QueueStatus.CANCELLED, "a job was cancelled"
    if tolerated:
        many = "1 job failed" if tolerated == 1 else f"{tolerated:,} jobs failed"
        return QueueStatus.COMPLETED, f"{many}, which is tolerated"
    return QueueStatus.COMPLETED, None
