"""What a result store tells of a queue that hasn't begun here: it has ended, or its id is taken.

Where it has ended nothing starts: the same command elsewhere would do everything again, and take
the store over from the run that is in it. Must not know what becomes of an unfinished run.
"""

from __future__ import annotations

from collections import Counter

from runner.core.states import QUEUE_ENDED, JobStatus, QueueStatus
from runner.errors import EndedElsewhereError, ExitCode, NotFoundError, StateError
from runner.model.document import QueueSpec, dump_document
from runner.results.layout import Layout
from runner.results.store import ChangedError, ResultStore, StoreError
from runner.results.stored_queue import StoredQueue, read_queue
from runner.timestamps import rfc3339

_CODES = {
    QueueStatus.COMPLETED: ExitCode.DONE,
    QueueStatus.FAILED: ExitCode.QUEUE_FAILED,
    QueueStatus.CANCELLED: ExitCode.CANCELLED,
}


def outcome(status: str, incomplete: bool) -> ExitCode:
    """The exit code of a queue that has ended so; ``incomplete``: without all of its results."""
    code = _CODES[QueueStatus(status)]
    return ExitCode.RESULTS_INCOMPLETE if code is ExitCode.DONE and incomplete else code


def check_not_ended(store: ResultStore | None, queue_id: str) -> None:
    """Raise EndedElsewhereError if the store holds an ended run of this queue. Blocks.

    Raises StoreError where nobody can tell. A state that can't be read is for who goes on with it.
    """
    if store is None:
        return
    try:
        stored = read_queue(store, Layout())
    except (NotFoundError, StateError):
        return
    if stored.queue_id == queue_id and stored.status in QUEUE_ENDED:
        raise ended_elsewhere(stored, store.describe())


def ended_elsewhere(stored: StoredQueue, where: str) -> EndedElsewhereError:
    """The error for a queue that has ended in the store at ``where``."""
    state, status = stored.state, stored.status.value
    counts = Counter(job.status for job in state.jobs)
    jobs = ", ".join(f"{counts[each]} {each.value}" for each in JobStatus if counts[each])
    at = f" at {rfc3339(state.completed_at)}" if state.completed_at else ""
    told = (
        f"nothing was started: {where} has queue '{stored.queue_id}', {status}{at} ({jobs})\n"
        f"fetch its results with: runner results {where}\n"
        "--retry-failed runs again what failed; --fresh begins anew; another queue_id makes "
        "another queue"
    )
    incomplete = any(job.incomplete for job in state.jobs)
    return EndedElsewhereError(told, outcome(status, incomplete), status, stored.raw)


def reserve(store: ResultStore | None, document: QueueSpec) -> bool:
    """Whether a new queue's own id is free in its store too, and taken from now on. Blocks.

    Two machines that begin in the same second would share a prefix: whose document is there first
    has it. A store that doesn't answer can't be asked: the id is then free as far as we know.
    """
    if store is None:
        return True
    try:
        store.swap_bytes(Layout.document_key, dump_document(document).encode(), None)
    except ChangedError:
        return False
    except StoreError:
        pass
    return True
