"""The tasks of an Executor and where each of them is, on this machine's disk.

Owns a folder: a database of tasks, and the payloads of calls until their jobs have started. A row
is written before what it tells of is done, so that after a crash each task is found where it may
be, and at no second place.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

from runner.api.payload import CALL, read_payload, remove, write_payload
from runner.api.tasks import FunctionTask, PayloadReference, Task, task_from_json, task_to_json
from runner.errors import StateError, disk_error
from runner.store.locks import Lock
from runner.store.sqlite_errors import translated

VERSION = 1

_SCHEMA = """
CREATE TABLE IF NOT EXISTS tasks (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    job_id TEXT NOT NULL UNIQUE,
    suffix INTEGER NOT NULL,
    state TEXT NOT NULL,
    place TEXT,
    turn INTEGER NOT NULL,
    task TEXT
);
CREATE INDEX IF NOT EXISTS open_tasks ON tasks (number) WHERE state <> 'started';
CREATE INDEX IF NOT EXISTS suffixes ON tasks (suffix);
"""


class SpoolState(Enum):
    """KEPT: no place has it. SENT: a place has it, or, after a crash, may have it. RECALLED: it may
    have been taken back from its place. STARTED: it runs there, or has run, or was cancelled."""

    KEPT = "kept"
    SENT = "sent"
    RECALLED = "recalled"
    STARTED = "started"


@dataclass(frozen=True, slots=True)
class SpooledTask:
    """Where a task is. ``turn``: how often it was taken back; ``task`` None: it has started."""

    job_id: str
    state: SpoolState
    place: str | None
    turn: int
    task: Task | None


class TaskSpool:
    """``durable``: what was written stays, also through a power cut. May be used by many threads.

    All methods raise DiskError, StateError; opening it LockedError as well.
    """

    def __init__(self, folder: Path, *, durable: bool) -> None:
        self.folder = folder
        self._durable = durable
        self._path = folder / "tasks.sqlite3"
        self._lock = threading.Lock()
        self._closed = False
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise disk_error(folder, error) from None
        self._owned = Lock(folder / "lock", f"the spool {folder}", f"an Executor of {os.getpid()}")
        try:
            with translated(self._path):
                self._connection = self._open()
        except BaseException:
            self._owned.release()
            raise

    def _open(self) -> sqlite3.Connection:
        made = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        try:
            made.execute("PRAGMA journal_mode = WAL")
            made.execute(f"PRAGMA synchronous = {'FULL' if self._durable else 'OFF'}")
            (version,) = made.execute("PRAGMA user_version").fetchone()
            if version not in (0, VERSION):
                raise StateError(
                    f"{self._path}: is a spool of version {version}, this runner knows {VERSION}"
                )
            for statement in _SCHEMA.split(";"):
                made.execute(statement)
            made.execute(f"PRAGMA user_version = {VERSION}")
        except BaseException:
            made.close()
            raise
        return made

    def close(self) -> None:
        """Let go of it. It can be read from then on, if the folder is still there."""
        with self._lock:
            self._closed = True
            self._connection.close()
        self._owned.release()

    # -- payloads ----------------------------------------------------------------------------

    def store_call(self, job_id: str, body: bytes, path: Sequence[str]) -> PayloadReference:
        """Keep a call's payload until its job has started. Raises OSError."""
        where = self._payload(job_id)
        header = write_payload(where, CALL, body, path, durable=self._durable)
        return PayloadReference(str(where), header.sha256, header.size)

    def call(self, job_id: str) -> tuple[bytes, Sequence[str]]:
        """A call's payload, and where it imports from. Raises OSError, PayloadError."""
        found = read_payload(self._payload(job_id), (CALL,))
        return bytes(found.body), found.header.path

    def discard(self, job_id: str) -> None:
        """The call was not taken."""
        remove(self._payload(job_id))

    def _payload(self, job_id: str) -> Path:
        return self.folder / f"{job_id}.call"

    # -- tasks -------------------------------------------------------------------------------

    def put(self, task: Task) -> None:
        """A new task, which no place has."""
        suffix = task.id.rpartition("-")[2]
        number = int(suffix) if suffix.isdecimal() and len(suffix) < 18 else 0
        self._write(
            "INSERT INTO tasks (job_id, suffix, state, turn, task) VALUES (?, ?, ?, 0, ?)",
            (task.id, number, SpoolState.KEPT.value, task_to_json(task)),
        )

    def mark(self, job_id: str, state: SpoolState, place: str | None, turn: int) -> None:
        """Where it is from now on, or may be."""
        self._write(
            "UPDATE tasks SET state = ?, place = ?, turn = ? WHERE job_id = ?",
            (state.value, place, turn, job_id),
        )

    def started(self, job_ids: Iterable[str]) -> None:
        """These are where they are for good."""
        ids = list(job_ids)
        with self._lock, translated(self._path, writing=True):
            self._connection.execute("BEGIN")
            try:
                self._connection.executemany(
                    "UPDATE tasks SET state = 'started', task = NULL WHERE job_id = ?",
                    [(job_id,) for job_id in ids],
                )
                self._connection.execute("COMMIT")
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
        for job_id in ids:
            remove(self._payload(job_id))

    def _write(self, statement: str, values: Sequence[object]) -> None:
        with self._lock, translated(self._path, writing=True):
            self._connection.execute(statement, values)

    def find(self, job_id: str) -> SpooledTask | None:
        """One of them; None: there is none of this id."""
        found = self._read("WHERE job_id = ?", (job_id,))
        return found[0] if found else None

    def unfinished(self) -> list[SpooledTask]:
        """Those that haven't started, as far as is known, in the order in which they came."""
        return self._read("WHERE state <> 'started' ORDER BY number", ())

    def highest(self) -> int:
        """The highest number that an id of a task ends with; 0: there are none."""
        with self._lock, translated(self._path):
            (found,) = self._connection.execute("SELECT max(suffix) FROM tasks").fetchone()
        return found or 0

    def _read(self, which: str, values: Sequence[object]) -> list[SpooledTask]:
        told = f"SELECT job_id, state, place, turn, task FROM tasks {which}"
        with self._lock, translated(self._path):
            if not self._closed:
                rows = self._connection.execute(told, values).fetchall()
            elif self._path.exists():
                with closing(sqlite3.connect(f"{self._path.as_uri()}?mode=ro", uri=True)) as made:
                    rows = made.execute(told, values).fetchall()
            else:
                rows = []
            return [
                SpooledTask(
                    job_id,
                    SpoolState(state),
                    place,
                    turn,
                    None if text is None else task_from_json(text, f"task {job_id}"),
                )
                for job_id, state, place, turn, text in rows
            ]


def task_for(task: Task, inner_id: str, reference: PayloadReference | None) -> Task:
    """The task as a place gets it: under the id that it has there, with its payload there."""
    if isinstance(task, FunctionTask):
        assert reference is not None
        return replace(task, id=inner_id, payload=reference)
    return replace(task, id=inner_id)
