"""The document of a queue that exists: whether a given one is the same, and how it is replaced.

Nobody works on the queue meanwhile: the caller holds its lock.
"""

from __future__ import annotations

from runner.core.run_mode import RunMode
from runner.core.update import accepting, carry_growth, carry_over
from runner.errors import ConflictError
from runner.model.document import QueueSpec, dump_document, first_difference
from runner.model.elements import unit_count
from runner.model.growth import added_to, as_given
from runner.service.queue_repository import QueueRepository
from runner.store.database import Database


def is_same(repository: QueueRepository, document: QueueSpec) -> bool:
    """Whether the queue was accepted with this document. Raises StateError."""
    assert document.queue_id is not None
    text = repository.stored_text(document.queue_id)
    # Mostly it is, letter by letter; to read the stored one costs three times as much.
    return (
        text == dump_document(document)
        or as_given(repository.stored_document(document.queue_id)) == document
    )


def check_same(repository: QueueRepository, document: QueueSpec) -> None:
    """Raise ConflictError unless this is the document the queue was accepted with."""
    if is_same(repository, document):
        return
    assert document.queue_id is not None
    opened = Database(repository.queue_paths(document.queue_id).database, read_only=True)
    try:
        stored = opened.read_document()
        loaded = opened.load(unit_count(stored.jobs))
    finally:
        opened.close()
    difference = first_difference(as_given(stored), document) or "it differs"
    document = carry_growth(stored, document)
    flags = accepting(stored, document, loaded.queue, loaded.jobs)
    told = f"queue '{document.queue_id}' was started with another document: {difference}\n"
    if flags is not None:
        told += f"{flags} accepts that; --fresh begins anew; another queue_id makes another queue"
        raise ConflictError(told)
    try:
        most = RunMode(retry_failed=True, rerun_changed=True)
        carry_over(stored, document, loaded.queue, loaded.jobs, most)
    except ConflictError as error:
        told += f"{error}\n"
    raise ConflictError(told + "--fresh begins anew; another queue_id makes another queue")


def mend(repository: QueueRepository, document: QueueSpec, again: RunMode) -> bool:
    """Accept another document for the queue; False, and nothing, if it is the one it has.

    What is to run again for it is pending then. Raises ConflictError naming each job that may not
    change so; DiskError, with nothing changed.
    """
    assert document.queue_id is not None
    opened = Database(repository.queue_paths(document.queue_id).database)
    try:
        stored = opened.read_document()
        if as_given(stored) == document:
            return False
        document = carry_growth(stored, document)
        loaded = opened.load(unit_count(stored.jobs))
        try:
            queue, jobs = carry_over(stored, document, loaded.queue, loaded.jobs, again)
        except ConflictError as error:
            told = f"queue '{document.queue_id}': {again.flags} doesn't accept this document:"
            raise ConflictError(f"{told}\n{error}") from None
        records, added = sorted(jobs.items()), added_to(document)
        opened.replace_all(dump_document(document), queue, records, added)
        return True
    finally:
        opened.close()
