"""A queue that nothing is known of here, and whose result store holds a run of it to resume.

What makes a spot machine that was terminated cost time and not work: completed jobs stay completed,
the one that ran goes on from its checkpoint. Owns when a stored run is resumed: never when
``--fresh`` was asked for; one that has ended, or has another document, only when it is to be mended
(``--retry-failed``, ``--update``, ``--rerun-changed``).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from runner.core.clock_shift import difference, shifted
from runner.core.events import Now
from runner.core.resume_from_store import from_stored
from runner.core.run_mode import RESUME, RunMode, parse_run_mode
from runner.core.states import ENDED, JobState, QueueState, QueueStatus
from runner.core.update import carry_growth, carry_over
from runner.errors import ConflictError, NotFoundError, RunnerError, StateError
from runner.model.document import QueueSpec, dump_document, parse_stored
from runner.model.elements import unit_count
from runner.model.growth import added_to, grown_text, with_added
from runner.model.queue import AddedJob
from runner.model.units import in_units
from runner.results.download.stored_log import get_log
from runner.results.journal import JournalState, digest_of, read_journal
from runner.results.layout import Layout, Stream
from runner.results.store import ResultStore, StoreError
from runner.results.stored_growth import read_added
from runner.results.stored_queue import StoredQueue, read_queue
from runner.service.queue_entry import QueueEntry
from runner.service.queue_repository import AGAIN, QueueRepository
from runner.service.session import JOURNAL_AFTER
from runner.store.database import Database
from runner.store.rows import request_rows

_GOES_ON = frozenset({QueueStatus.RUNNING, QueueStatus.INTERRUPTED})
_STREAMS: tuple[Stream, ...] = ("stdout", "stderr")


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A stored run, and the records that go on with it here; of a ``journal``, where it stands.

    ``document``: what they are of, with all that was added."""

    stored: StoredQueue
    queue: QueueState
    jobs: dict[int, JobState]
    where: str
    journal: JournalState | None
    document: QueueSpec


def is_new(entry: QueueEntry) -> bool:
    """Whether nothing has begun here, and a stored run of it may be resumed."""
    queue = entry.queue
    untouched = queue is not None and queue.status is QueueStatus.PENDING and not queue.started_at
    return untouched and not entry.meta.get("anew") and not entry.aside


def find(
    repository: QueueRepository,
    entry: QueueEntry,
    store: ResultStore | None,
    say: Callable[[str], None],
    *,
    journal: Now | None = None,
) -> StoredRun | None:
    """What the store has of a queue that is new here. Blocks. ``say`` takes why it isn't used.

    ``journal``: the moment, where its attempts are elsewhere and go on: a journal is believed then.
    Raises StoreError where nobody can tell, ConflictError as ``look`` does.
    """
    if store is None or not is_new(entry):
        return None
    again = parse_run_mode(entry.meta.get(AGAIN, RESUME))
    return look(repository.stored_document(entry.name), again, store, say, journal=journal)


def look(
    document: QueueSpec,
    again: RunMode,
    store: ResultStore,
    say: Callable[[str], None],
    *,
    journal: Now | None = None,
) -> StoredRun | None:
    """What the store has of a queue that goes on with this document. Blocks. See ``find``.

    Raises ConflictError where ``again`` asks for its mending and doesn't accept the document, or
    where the stored run can't be read: what has been done must not be done again unasked. With
    ``journal`` a run that can't be read is a StateError in any case.
    """
    layout, where = Layout(), store.describe()
    try:
        stored = read_queue(store, layout)
    except NotFoundError:
        return None
    except StateError as error:
        _unusable(f"{error}", again, say, journal)
        return None
    if stored.queue_id != document.queue_id:
        return None
    if stored.status not in _GOES_ON and not again.mends and journal is None:
        return None
    found = None
    try:
        if journal is not None:
            found = read_journal(store, layout, stored.run_id)
        before = stored_document(store, None if found is None else found.document)
        if before is None:
            _unusable(f"{where} holds a run without its document", again, say, journal)
            return None
        before = before.with_id(stored.queue_id)
        if before != document and not again.mends:
            told = f"{where} holds an unfinished run of another document"
            _unusable(told, again, say, journal)
            return None
        added = list(found.added) if found else read_added(store, layout, stored.state)
        before = with_growth(before, added)
        if found is None:
            queue, jobs = from_stored(before, stored.state)
        else:
            assert journal is not None
            found.check(unit_count(before.jobs))
            queue, jobs = shifted(found.queue, found.jobs, difference(found.moment, journal))
            # A driver that is gone may have claimed the store just before.
            queue = replace(queue, epoch=max(queue.epoch, stored.state.epoch))
    except (ConflictError, StoreError):
        raise
    except RunnerError as error:
        if journal is not None:
            raise
        _unusable(f"the run in {where} can't be resumed: {error}", again, say, journal)
        return None
    if again.mends:
        document = carry_growth(before, document)
        try:
            queue, jobs = carry_over(before, document, queue, jobs, again)
        except ConflictError as error:
            told = f"{where} has a run of '{stored.queue_id}', and {again.flags} doesn't accept"
            raise ConflictError(f"{told} this document for it:\n{error}") from None
    return StoredRun(stored, queue, jobs, where, found, document if again.mends else before)


def with_growth(document: QueueSpec, added: Sequence[AddedJob]) -> QueueSpec:
    """The document with what was added to it, read. Raises DocumentError."""
    if not added:
        return document
    text = grown_text(dump_document(document), added)
    return with_added(parse_stored(text.encode()), [each.parent for each in added])


def stored_document(store: ResultStore, digest: str | None) -> QueueSpec | None:
    """The queue's document in a store, or with ``digest`` the one of this content; None for none.

    Raises DocumentError, StoreError.
    """
    raw = store.get_bytes(Layout.document_key)
    document = None if raw is None else parse_stored(raw)
    if digest is None or (document is not None and digest_of(dump_document(document)) == digest):
        return document
    raw = store.get_bytes(Layout().corrected_key(digest))
    return None if raw is None else parse_stored(raw)


def _unusable(why: str, again: RunMode, say: Callable[[str], None], journal: Now | None) -> None:
    if journal is not None:
        raise StateError(f"{why}: its attempts may still run, so nothing is begun anew")
    if again.mends:
        raise ConflictError(f"{why}: there is nothing to mend; --fresh begins anew")
    say(f"{why}: begun anew")


def take_over(
    repository: QueueRepository,
    entry: QueueEntry,
    found: StoredRun,
    store: ResultStore,
    request_id: str | None = None,
) -> None:
    """Go on from it. Blocks; the caller holds the queue's lock. Repeating it changes nothing.

    ``request_id``: of the request to mend it that the records carry out, where there is a journal.
    Raises StateError, DiskError.
    """
    if found.journal is None:
        # Attempts that are elsewhere store their own.
        _fetch_logs(repository, entry, found, store)
    database = Database(repository.queue_paths(entry.name).database)
    try:
        # What was stored is in this store: it is not to be stored again.
        meta = {"results": found.where}
        if found.journal is not None:
            carried_out = dict(found.journal.requests)
            if request_id is not None:
                carried_out[request_id] = found.queue.updated_at or 0.0
            meta |= {JOURNAL_AFTER: str(found.journal.last), **request_rows(carried_out)}
        database.write_meta(meta)
        records, added = sorted(found.jobs.items()), added_to(found.document)
        database.replace_all(database.document(), found.queue, records, added)
    finally:
        database.close()


def _fetch_logs(
    repository: QueueRepository, entry: QueueEntry, found: StoredRun, store: ResultStore
) -> None:
    """Have the newest logs of jobs that go on: they become those of an earlier attempt.

    What can't be had is missing; no work depends on it.
    """
    logs = repository.log_paths(entry.name)
    logs.jobs.mkdir(parents=True, exist_ok=True)
    for index, job in enumerate(in_units(found.document).jobs):
        state, described = found.jobs.get(index), found.stored.jobs.get(job.job_id)
        if state is None or described is None or not state.attempt or state.status in ENDED:
            continue
        for stream in _STREAMS:
            with suppress(OSError, StoreError, NotFoundError, StateError):
                fd, path = tempfile.mkstemp(prefix=".fetched-", dir=logs.jobs)
                try:
                    get_log(
                        store, found.stored, described, state.attempt, stream, fd, str(logs.jobs)
                    )
                    os.fchmod(fd, 0o644)
                    newest = logs.newest(job.job_id, stream)
                    os.makedirs(os.path.dirname(newest), exist_ok=True)
                    os.rename(path, newest)
                finally:
                    os.close(fd)
                    with suppress(FileNotFoundError):
                        os.unlink(path)
