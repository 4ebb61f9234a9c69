"""What an interrupted attempt has saved: stored before the machine goes, back before the next one.

Owns when that is. A checkpoint is in doubt after every boot: the disk may have come back empty.
"""

from __future__ import annotations

from dataclasses import replace

from runner.core.actions import SaveCheckpoint
from runner.core.events import CheckpointSaved, InputsFetched
from runner.core.queue_records import QueueRecords
from runner.core.states import JobState, JobStatus


def save(records: QueueRecords, index: int) -> None:
    """Have it stored, if this is the end of the session. What was lost in its midst, with its
    supervisor or with a former boot, starts again here, beside its files."""
    if records.interrupting and records.collects and records.document.jobs[index].checkpoint_paths:
        records.act(SaveCheckpoint(index))


def on_checkpoint_saved(records: QueueRecords, event: CheckpointSaved) -> None:
    """People see what there is to go on from."""
    wall, job = event.now.wall, event.job
    if event.error is not None:
        records.tell(wall, job, "checkpoint_not_stored", why=event.error)
    elif event.files:
        records.tell(wall, job, "checkpoint_stored", files=event.files, bytes=event.size)
    else:
        records.tell(wall, job, "checkpoint_empty")


def doubt_all(records: QueueRecords) -> None:
    """The machine has been down: whoever has begun may have lost what it saved.

    Also what has failed or was cancelled: it may be asked for again at any time in this boot.
    """
    for index, state in enumerate(records.jobs):
        begun = state.attempt > 0 and state.status is not JobStatus.COMPLETED
        if begun and records.document.jobs[index].checkpoint_paths:
            records.put(index, replace(state, needs_check=True))


def settled(records: QueueRecords, event: InputsFetched, state: JobState) -> JobState:
    """It has been looked for: the job goes on from it, or begins anew if it can't be had."""
    if event.lost is not None:
        records.tell(event.now.wall, event.job, "checkpoint_lost", why=event.lost)
    elif event.restored:
        records.tell(event.now.wall, event.job, "checkpoint_restored", files=event.restored)
    return replace(state, needs_check=False)
