"""Where a queue's attempts run, as its database remembers it: on this machine, or on AWS Batch.

Attempts under way are found again only by who looks where they are: until they have ended a queue
stays where it is.
"""

from __future__ import annotations

from runner.errors import ConflictError
from runner.service.queue_entry import QueueEntry
from runner.service.queue_repository import QueueRepository
from runner.store.database import Database

PLACE = "place"
"""The key of ``meta`` under which it is noted; none for this machine."""

BATCH = "batch"


def check_place(entry: QueueEntry, place: str) -> None:
    """Raise ConflictError for a queue that has begun elsewhere and hasn't ended."""
    before = entry.meta.get(PLACE, "")
    begun = entry.queue is not None and entry.queue.started_at is not None
    if before == place or not begun or entry.ended:
        return
    if before == BATCH:
        raise ConflictError(
            f"queue '{entry.name}' has begun on AWS Batch: `runner run … --target batch` goes on "
            "with it there, and `runner cancel` meanwhile ends it"
        )
    raise ConflictError(
        f"queue '{entry.name}' has begun on this machine: `runner run` without --target goes on "
        "with it here"
    )


def note_place(repository: QueueRepository, name: str, place: str) -> None:
    """Remember where the queue's attempts run from now on. Raises DiskError."""
    if repository.find(name).meta.get(PLACE, "") == place:
        return
    database = Database(repository.queue_paths(name).database)
    try:
        database.write_meta({PLACE: place})
    finally:
        database.close()
