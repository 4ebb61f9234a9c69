"""Where a queue's attempts run, as its record remembers it: on this machine, or on AWS Batch.

Attempts under way are found again only by who looks where they are: until they have ended a queue
stays where it is.
"""

from __future__ import annotations

from runner.core.states import ON_BATCH
from runner.errors import ConflictError
from runner.service.queue_entry import QueueEntry


def check_place(entry: QueueEntry, *, on_batch: bool) -> None:
    """Raise ConflictError for a queue that has begun elsewhere and hasn't ended.

    Of one that was taken over from a store without a journal it isn't known, and doesn't matter.
    """
    queue = entry.queue
    if queue is None or entry.ended or not queue.boot_id:
        return
    if (queue.boot_id == ON_BATCH) is on_batch:
        return
    if on_batch:
        raise ConflictError(
            f"queue '{entry.name}' has begun on this machine: `runner run` without --target goes "
            "on with it here"
        )
    raise ConflictError(
        f"queue '{entry.name}' has begun on AWS Batch: `runner run` with --target batch goes on "
        "with it there"
    )
