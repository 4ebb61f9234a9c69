"""An open queue: one that begins without jobs and takes them as long as it is open."""

from __future__ import annotations

from runner.errors import ConflictError
from runner.model.document import QueueSpec
from runner.model.durations import LONGEST
from runner.service.queue_repository import QueueRepository

OWNER = "executor"
"""The ``owner`` in the records of a queue that an Executor has made."""


def open_queue(repository: QueueRepository, queue_id: str, parallel: int) -> bool:
    """Have a queue of this id that jobs can be added to; whether it is new. The caller holds its
    lock.

    Raises ConflictError for a queue that was made from a document, and what reading one raises.
    """
    if repository.exists(queue_id):
        owner = repository.find(queue_id).meta.get("owner")
        if owner != OWNER:
            raise ConflictError(
                f"queue '{queue_id}' in {repository.paths.root} was made from a document: give the "
                "Executor another name"
            )
        return False
    document = QueueSpec(
        queue_id=queue_id,
        queue_name=queue_id,
        jobs=(),
        global_timeout=LONGEST,
        on_failure="continue",
        max_parallel_jobs=parallel,
    )
    repository.create(document, OWNER, anonymous=False)
    return True
