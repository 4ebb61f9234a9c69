"""The truth about one queue: an SQLite database, one transaction per step of the scheduler.

Owns the tables and their versions. A database that can't be read is left exactly as it is; the
error names it. Records are JSON, so that a later version's optional field needs no migration.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from runner.core.states import JobState, QueueState, to_record
from runner.errors import DamagedError, DocumentError, RecordError, StateError, disk_error
from runner.files import sync_folder
from runner.model.queue import AddedJob
from runner.store import added_rows
from runner.store.last_event import LastEvent
from runner.store.paths import QueuePaths
from runner.store.reserved_space import keep_room
from runner.store.rows import (
    Outline,
    added_of,
    event_of,
    job_of,
    meta_of,
    meta_rows,
    outline_of,
    queue_id_of,
    queue_of,
    record_text,
    request_rows,
    requests_of,
    text_of,
    text_of_value,
)
from runner.store.sqlite_errors import ADVICE, judged, translated

if TYPE_CHECKING:
    from runner.core.history import Added, StoryEntry
    from runner.model.document import QueueSpec

SCHEMA_VERSION = 2
"""Of a state with jobs that were added while the queue ran; without any it is still version 1, for
nothing else is different, and an earlier runner reads it."""

_FIRST_VERSION = "1"

UNSTORED = "unstored"
"""The key of ``meta`` under which it is noted why the last state of an ended queue couldn't be
stored, as long as it isn't."""

TAKEN_OVER = "taken_over"
"""The key of ``meta`` under which it is noted that another machine works on the queue, and why."""

_TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE queue (id INTEGER PRIMARY KEY CHECK (id = 1), record TEXT NOT NULL);
CREATE TABLE jobs (idx INTEGER PRIMARY KEY, record TEXT NOT NULL);
CREATE TABLE events (seq INTEGER PRIMARY KEY, wall REAL NOT NULL, job TEXT, event TEXT NOT NULL,
                     detail TEXT);
"""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a database holds, the document still as text."""

    queue_id: str
    meta: dict[str, str]
    queue: QueueState
    jobs: dict[int, JobState]


class Database:
    """An open database. ``close`` it; its handle doesn't leak into jobs (close-on-exec).

    Every method raises DiskError for what may pass (nothing of the call took effect, the same call
    may be made again) and StateError for what will not: DamagedError where the content is to blame.
    ``durable``: a commit survives a power cut; False: it survives the end of this process only.
    """

    def __init__(self, path: Path, *, read_only: bool = False, durable: bool = True) -> None:
        self.path = path
        self._synchronous = _synchronous(durable)
        self._read_only = read_only
        self._last_event = LastEvent(QueuePaths(path.parent).last_event)
        try:
            found = path.is_file()
        except OSError as error:
            raise disk_error(path, error) from None
        if not found:
            raise StateError(f"{path}: there is no state here")
        uri = f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rw'}"
        with translated(path):
            self._connection = sqlite3.connect(
                uri, uri=True, isolation_level=None, timeout=5.0, check_same_thread=False
            )
            try:
                self._prepare()
            except BaseException:
                self._connection.close()
                raise

    def _prepare(self) -> None:
        execute = self._connection.execute
        if not self._read_only:
            execute("PRAGMA journal_mode = WAL")
            execute(self._synchronous)
            # A checkpoint syncs the database as well as the log: seldom, and not too large.
            execute("PRAGMA wal_autocheckpoint = 4000")
        told = self.meta().get("schema_version", "")
        version = int(told) if told.isdecimal() and len(told) < 9 else 0
        if not 1 <= version <= SCHEMA_VERSION:
            raise StateError(
                f"{self.path}: this state has version {version}, and this runner knows 1 to "
                f"{SCHEMA_VERSION}; use the version of runner that wrote it, or a newer one"
            )

    def keep_room(self) -> None:
        """Have room for some hundred steps on a disk that fills up, as far as there is any now."""
        keep_room(self.path.with_name(f"{self.path.name}-wal"))

    def wait_for_lock(self, seconds: float) -> None:
        """How long a call waits from now on for a lock that another process holds: 5 s at first."""
        with translated(self.path):
            self._connection.execute(f"PRAGMA busy_timeout = {round(seconds * 1000)}")

    def close(self) -> None:
        self._last_event.close()
        self._connection.close()

    # -- reading -----------------------------------------------------------------------------

    def meta(self) -> dict[str, str]:
        """All of the meta table but the document, which may be large."""
        with translated(self.path):
            query = "SELECT key, value FROM meta WHERE key <> 'document'"
            return meta_of(self._connection.execute(query), self.path)

    def added(self) -> list[AddedJob]:
        """The jobs that were added since, in order."""
        with translated(self.path):
            return [added_of(row, self.path) for row in added_rows.read_added(self._connection)]

    def count_added(self) -> int:
        """How many these are."""
        with translated(self.path):
            return added_rows.count_rows(self._connection)

    def document(self) -> str:
        """The document as it was accepted, in canonical form."""
        with translated(self.path):
            query = "SELECT value FROM meta WHERE key = 'document'"
            row = self._connection.execute(query).fetchone()
        if row is None:
            raise DamagedError(f"{self.path}: holds no document; {ADVICE}")
        with translated(self.path):
            return text_of(row[0], f"{self.path}: the document")

    def queue(self) -> QueueState:
        with translated(self.path):
            row = self._connection.execute("SELECT record FROM queue").fetchone()
            if row is None:
                raise DamagedError(f"{self.path}: holds no queue; {ADVICE}")
            return queue_of(row[0], self.path)

    def load(self, total: int | None = None) -> Loaded:
        """Everything, checked: a damaged database raises DamagedError and is left alone.

        ``total``: how many units the document has; it is read for that where nobody knows.
        """
        with self.one_moment():
            (verdict,) = self._connection.execute("PRAGMA quick_check(1)").fetchone()
            if verdict != "ok":
                raise judged(self.path, str(verdict))
            total = len(self.outline().units) if total is None else total
            rows = self._connection.execute("SELECT idx, record FROM jobs")
            jobs = {index: job_of(index, record, total, self.path) for index, record in rows}
            meta = self.meta()
            return Loaded(queue_id_of(meta, self.path), meta, self.queue(), jobs)

    @contextmanager
    def one_moment(self) -> Iterator[None]:
        """All that is read in this block is of one moment: another process may add jobs."""
        with translated(self.path):
            if begun := not self._connection.in_transaction:
                self._connection.execute("BEGIN")
            try:
                yield
            finally:
                if begun and self._connection.in_transaction:
                    self._connection.execute("COMMIT")

    def missing_events(self, run_id: str) -> int:
        """How many lines of this run's story were durable once and are not here any more."""
        with translated(self.path):
            (newest,) = self._connection.execute("SELECT max(seq) FROM events").fetchone()
        return max(0, self._last_event.read(run_id) - (newest or 0))

    def outline(self) -> Outline:
        """What there is to see of the document, without the cost of validating it again."""
        with translated(self.path):
            return outline_of(added_rows.grown(self.document(), self.added()), self.path)

    def read_document(self) -> QueueSpec:
        """The document with what was added to it, validated. Raises DamagedError."""
        from runner.model.document import parse_stored
        from runner.model.growth import with_added

        with translated(self.path):
            added = self.added()
            try:
                document = parse_stored(added_rows.grown(self.document(), added).encode())
                return with_added(document, [each.parent for each in added])
            except (DocumentError, UnicodeEncodeError) as error:
                raise RecordError(f"{self.path}: the document: {error}") from None

    def story(
        self, job: str | None = None, last: int = 1000, *, of_array: bool = False
    ) -> list[dict[str, Any]]:
        """The newest ``last`` events, of one job or of all, oldest first.

        ``of_array``: the job is an array; those of its elements are meant.
        """
        where, values = ("WHERE job = ?", [job]) if job is not None else ("", [])
        if of_array:
            # From `x[` to before `x\`, the character behind it: no index of events is needed.
            where, values = "WHERE job >= ? AND job < ?", [f"{job}[", f"{job}\\"]
        query = f"SELECT wall, job, event, detail FROM events {where} ORDER BY seq DESC LIMIT ?"
        with translated(self.path):
            rows = self._connection.execute(query, [*values, last]).fetchall()
            return [event_of(row, self.path) for row in reversed(rows)]

    def events_after(self, seq: int, limit: int) -> list[dict[str, Any]]:
        """Events after the one of this number, oldest first, with their numbers."""
        query = (
            "SELECT seq, wall, job, event, detail FROM events WHERE seq > ? ORDER BY seq LIMIT ?"
        )
        with translated(self.path):
            rows = self._connection.execute(query, [seq, limit]).fetchall()
            return [
                {"seq": number, "wall": wall, "job": job, "event": event,
                 "detail": json.loads(detail or "{}")}
                for number, wall, job, event, detail in rows
            ]  # fmt: skip

    def last_event(self) -> int:
        """The number of the last event, 0 for none."""
        with translated(self.path):
            (found,) = self._connection.execute("SELECT max(seq) FROM events").fetchone()
        return found or 0

    # -- writing -----------------------------------------------------------------------------

    def commit(
        self,
        queue: QueueState,
        jobs: Iterable[tuple[int, JobState]],
        story: Iterable[StoryEntry],
        names: Sequence[str],
        requests: Mapping[str, float] = MappingProxyType({}),
        added: Sequence[Added] = (),
    ) -> None:
        """One step. Raises DiskError with nothing written; StateError if it's beyond repair.

        ``names`` are those of the units. ``added``: jobs that the queue has got.
        ``requests``: the ids of requests that it carries out, and when that was (wall).
        """
        execute = self._connection.execute
        newest = None
        with self._transaction():
            if added:
                self._add(
                    (each.place, added_rows.stored_form(each.job, each.parent)) for each in added
                )
            for idx, state in jobs:
                execute("INSERT OR REPLACE INTO jobs VALUES (?, ?)", (idx, record_text(state)))
            for entry in story:
                job = None if entry.job is None else names[entry.job]
                detail = text_of_value(entry.detail) if entry.detail else None
                newest = execute(
                    "INSERT INTO events (wall, job, event, detail) VALUES (?, ?, ?, ?)",
                    (entry.wall, job, entry.event, detail),
                ).lastrowid
            execute("UPDATE queue SET record = ?", (text_of_value(to_record(queue)),))
            if requests:
                self.set_meta(request_rows(requests))
        if newest is not None:
            self._last_event.write(queue.run_id, newest)

    def _add(self, added: Iterable[tuple[int, AddedJob]]) -> None:
        """Within a transaction."""
        added_rows.add_rows(self._connection, added)
        self.set_meta({"schema_version": str(SCHEMA_VERSION)})

    def replace_all(
        self,
        document: str,
        queue: QueueState,
        jobs: Iterable[tuple[int, JobState]],
        added: Sequence[tuple[int, AddedJob]] | None = None,
    ) -> None:
        """Accept a changed document: its jobs have other numbers, so every record is new.

        ``added``: what was added to it, with its numbers; None: that stays as it is.
        """
        execute = self._connection.execute
        with self._transaction():
            if added is not None:
                added_rows.remove_added(self._connection)
                self.set_meta({"schema_version": _FIRST_VERSION})
                if added:
                    self._add(added)
            execute("DELETE FROM jobs")
            for idx, state in jobs:
                execute("INSERT INTO jobs VALUES (?, ?)", (idx, record_text(state)))
            execute("UPDATE queue SET record = ?", (text_of_value(to_record(queue)),))
            self.set_meta({"document": document})

    def requests(self) -> dict[str, float]:
        """The ids of requests that were carried out, and when (wall)."""
        return requests_of(self.meta())

    def write_meta(self, values: dict[str, str]) -> None:
        """Set some meta values, durably."""
        with self._transaction():
            self.set_meta(values)

    def set_meta(self, values: dict[str, str]) -> None:
        """Within a transaction of the caller's."""
        query = "INSERT OR REPLACE INTO meta VALUES (?, ?)"
        self._connection.executemany(query, meta_rows(values))

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with translated(self.path, writing=True):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise


def _synchronous(durable: bool) -> str:
    return f"PRAGMA synchronous = {'FULL' if durable else 'OFF'}"


def create(paths: QueuePaths, document: str, queue: QueueState, meta: dict[str, str]) -> None:
    """Make a queue's folder with its database: it is there whole, or not at all.

    The caller holds the queue's lock; what a killed process left of an earlier try is removed.
    Raises DiskError.
    """
    import shutil

    temporary = paths.root.parent / f".new-{paths.root.name}"
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True, mode=0o711)
        path = temporary / "state.db"
        fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        os.close(fd)
        with translated(path, writing=True):
            connection = sqlite3.connect(path, isolation_level=None)
            try:
                connection.execute(_synchronous(paths.durable))
                connection.executescript(f"BEGIN; {_TABLES}")
                connection.execute(
                    "INSERT INTO queue VALUES (1, ?)", (text_of_value(to_record(queue)),)
                )
                rows = {**meta, "document": document, "schema_version": _FIRST_VERSION}
                connection.executemany("INSERT INTO meta VALUES (?, ?)", meta_rows(rows))
                connection.execute("COMMIT")
                connection.execute("PRAGMA journal_mode = WAL")
            finally:
                connection.close()
        if paths.durable:
            sync_folder(temporary)
        os.rename(temporary, paths.root)
        if paths.durable:
            sync_folder(paths.root.parent)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise disk_error(paths.root, error) from None
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
