"""A queue that nothing is known of here, and whose result store holds an unfinished run of it.

What makes a spot machine that was terminated cost time and not work: completed jobs stay completed,
the one that ran goes on from its checkpoint. Owns when a stored run is gone on from; it is never
when ``--fresh`` was asked for, nor for another document.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from runner.core.states import ENDED, JobState, QueueState, QueueStatus
from runner.core.taking_over import from_stored
from runner.errors import NotFoundError, RunnerError, StateError
from runner.model.document import parse_stored
from runner.results.layout import Layout, Stream
from runner.results.store import ResultStore, StoreError
from runner.results.stored import StoredQueue, read_queue
from runner.results.stored_log import get_log
from runner.service.shelf import Entry, Shelf
from runner.store.database import Database

_GOES_ON = frozenset({QueueStatus.RUNNING, QueueStatus.INTERRUPTED})
_STREAMS: tuple[Stream, ...] = ("stdout", "stderr")


@dataclass(frozen=True, slots=True)
class Found:
    """An unfinished run, and the records that go on with it here."""

    stored: StoredQueue
    queue: QueueState
    jobs: dict[int, JobState]
    where: str


def is_new(entry: Entry) -> bool:
    """Whether nothing has begun here, and a stored run of it may be gone on from."""
    queue = entry.queue
    untouched = queue is not None and queue.status is QueueStatus.PENDING and not queue.started_at
    return untouched and not entry.meta.get("anew") and not entry.aside


def find(
    shelf: Shelf, entry: Entry, store: ResultStore | None, say: Callable[[str], None]
) -> Found | None:
    """What the store has of a queue that is new here. Blocks. ``say`` takes why it isn't used.

    Raises StoreError where nobody can tell.
    """
    if store is None or not is_new(entry):
        return None
    layout = Layout()
    try:
        stored = read_queue(store, layout)
    except NotFoundError:
        return None
    except StateError as error:
        say(f"{error}: begun anew")
        return None
    if stored.queue_id != entry.queue_id or stored.status not in _GOES_ON:
        return None
    raw = store.get_bytes(layout.document_key)
    document = shelf.stored_document(entry.name)
    try:
        if raw is None or parse_stored(raw).with_id(entry.queue_id) != document:
            what = "without its document" if raw is None else "of another document"
            say(f"{store.describe()} holds an unfinished run {what}: begun anew")
            return None
        queue, jobs = from_stored(document, stored.state)
    except RunnerError as error:
        say(f"the run in {store.describe()} can't be gone on from, begun anew: {error}")
        return None
    return Found(stored, queue, jobs, store.describe())


def take_over(shelf: Shelf, entry: Entry, found: Found, store: ResultStore) -> None:
    """Go on from it. Blocks; the caller holds the queue's lock. Repeating it changes nothing.

    Raises StateError, DiskError.
    """
    _fetch_logs(shelf, entry, found, store)
    database = Database(shelf.queue_paths(entry.name).database)
    try:
        # What was stored is in this store: it is not to be stored again.
        database.write_meta({"results": found.where})
        database.replace_all(database.document(), found.queue, sorted(found.jobs.items()))
    finally:
        database.close()


def _fetch_logs(shelf: Shelf, entry: Entry, found: Found, store: ResultStore) -> None:
    """Have the newest logs of jobs that go on: they become those of an earlier attempt.

    What can't be had is missing; no work depends on it.
    """
    logs = shelf.log_paths(entry.name)
    logs.jobs.mkdir(parents=True, exist_ok=True)
    for index, job in enumerate(shelf.stored_document(entry.name).jobs):
        state = found.jobs[index]
        if not state.attempt or state.status in ENDED:
            continue
        for stream in _STREAMS:
            described = found.stored.jobs[job.job_id]
            with suppress(OSError, StoreError, NotFoundError, StateError):
                fd, path = tempfile.mkstemp(prefix=".fetched-", dir=logs.jobs)
                try:
                    get_log(
                        store, found.stored, described, state.attempt, stream, fd, str(logs.jobs)
                    )
                    os.fchmod(fd, 0o644)
                    os.rename(path, logs.newest(job.job_id, stream))
                finally:
                    os.close(fd)
                    with suppress(FileNotFoundError):
                        os.unlink(path)
