"""What an error of SQLite's, or of the kernel's for a file of the state, is told as."""

import errno
import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from runner.core.states import JobState, JobStatus, QueueState
from runner.errors import (
    DamagedError,
    DatabaseBusyError,
    DiskError,
    DiskFailingError,
    DiskFullError,
    ReadOnlyDiskError,
    StateError,
    disk_error,
)
from runner.store import database
from runner.store.database import Database
from runner.store.locks import Lock
from runner.store.paths import QueuePaths
from runner.store.sqlite_errors import translated

QUEUE = QueueState(run_id="r")


@pytest.fixture
def paths(tmp_path: Path) -> QueuePaths:
    made = QueuePaths(tmp_path / "queues" / "q")
    database.create(made, '{"queue_name": "q", "jobs": []}', QUEUE, {"queue_id": "q"})
    return made


def test_a_path_that_is_not_utf8_is_kept_and_a_word_that_is_not_is_written_as_one(
    paths: QueuePaths,
) -> None:
    """A folder from an old machine would be told as a damaged state, or make one."""
    odd = os.fsdecode(b"/home/caf\xe9")
    with closing(Database(paths.database)) as opened:
        opened.write_meta({"work_dir": odd, "results": "/größe"})
        state = JobState(status=JobStatus.FAILED, attempt=1, error_message=f"no {odd} here")
        opened.commit(QUEUE, [(0, state)], [], ["a"])
        meta = opened.meta()
        assert (meta["work_dir"], meta["results"]) == (odd, "/größe")
    told = sqlite3.connect(paths.database).execute("SELECT record FROM jobs").fetchone()[0]
    assert json.loads(told)["error_message"] == "no /home/caf? here"


def test_a_held_lock_is_busy_and_not_damage(
    paths: QueuePaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backup that reads the database for ten seconds has a queue called damaged."""
    connect = sqlite3.connect
    impatient = lambda *args, **named: connect(*args, **{**named, "timeout": 0.01})  # noqa: E731
    monkeypatch.setattr(sqlite3, "connect", impatient)
    with closing(Database(paths.database)) as ours, closing(connect(paths.database)) as theirs:
        theirs.execute("BEGIN IMMEDIATE")
        with pytest.raises(DatabaseBusyError, match="another process holds its lock"):
            ours.commit(QUEUE, [], [], [])
        theirs.execute("ROLLBACK")
        ours.commit(QUEUE, [], [], [])
        assert ours.load().queue == QUEUE


def test_no_room_is_a_full_disk_and_nothing_was_written(paths: QueuePaths) -> None:
    """A step that met a full disk is half there, or its queue is given up."""
    with closing(Database(paths.database)) as ours:
        ours._connection.execute("PRAGMA max_page_count = 1")
        with pytest.raises(DiskFullError):
            ours.write_meta({"large": "x" * 100_000})
        ours._connection.execute("PRAGMA max_page_count = 100000")
        assert "large" not in ours.meta()
        ours.write_meta({"large": "x" * 100_000})


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (sqlite3.SQLITE_BUSY_SNAPSHOT, DatabaseBusyError),
        (sqlite3.SQLITE_LOCKED, DatabaseBusyError),
        (sqlite3.SQLITE_IOERR_READ, DiskFailingError),
        (sqlite3.SQLITE_IOERR_FSYNC, DiskFailingError),
        (sqlite3.SQLITE_READONLY_CANTINIT, ReadOnlyDiskError),
        (sqlite3.SQLITE_CANTOPEN, DiskError),
        (sqlite3.SQLITE_NOMEM, DiskError),
        (sqlite3.SQLITE_FULL, DiskFullError),
        # What is on the disk is well: a read failed.
        (sqlite3.SQLITE_CORRUPT, DiskFailingError),
        (sqlite3.SQLITE_NOTADB, DiskFailingError),
        (sqlite3.SQLITE_ERROR, DamagedError),
        (None, DamagedError),
    ],
)
def test_each_result_code_has_its_kind(
    paths: QueuePaths, code: int | None, kind: type[Exception]
) -> None:
    """One EIO, or a lock, is told as damage: a person is sent to a backup that is older."""
    error = sqlite3.OperationalError("told by SQLite")
    if code is not None:
        error.sqlite_errorcode = code
    with pytest.raises(kind) as raised, translated(paths.database):
        raise error
    assert type(raised.value) is kind
    assert str(paths.database) in str(raised.value)


def test_an_error_in_the_shared_memory_of_a_full_disk_is_a_full_disk(
    paths: QueuePaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a full disk people are told that their device fails."""
    real = os.statvfs(paths.root)
    full = os.statvfs_result([*real[:4], 0, *real[5:]])
    monkeypatch.setattr(os, "statvfs", lambda _: full)
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR_SHMSIZE
    with pytest.raises(DiskFullError), translated(paths.database):
        raise error


def test_what_is_no_database_is_damage(paths: QueuePaths) -> None:
    """Bytes that aren't a state are tried for ever, as if they could become one."""
    paths.database.write_bytes(b"\0" * 5000)
    with pytest.raises(DamagedError, match="left as it is"):
        Database(paths.database)


def test_damage_is_told_by_the_bytes_and_not_by_the_code(paths: QueuePaths) -> None:
    """SQLite tells of EIO on a read as of damage: one bad moment of a disk drops a queue."""
    error = sqlite3.DatabaseError("database disk image is malformed")
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    with closing(Database(paths.database)) as ours:
        ours.write_meta({"in the": "log"})
        with pytest.raises(DiskFailingError, match="a read failed"), translated(paths.database):
            raise error
    content = bytearray(paths.database.read_bytes())
    content[4096:4200] = b"\xff" * 104
    paths.database.write_bytes(content)
    with pytest.raises(DamagedError, match="left as it is"), translated(paths.database):
        raise error


def test_no_database_is_no_disk_error(tmp_path: Path) -> None:
    """A queue that isn't there is waited for."""
    with pytest.raises(StateError, match="no state here"):
        Database(tmp_path / "state.db")


def test_the_kernels_refusal_of_a_file_is_no_damage(tmp_path: Path) -> None:
    """A state folder on a failing disk has its queues told as unreadable for good."""
    for number, kind in [
        (errno.ENOSPC, DiskFullError),
        (errno.EDQUOT, DiskFullError),
        (errno.EIO, DiskFailingError),
        (errno.EROFS, ReadOnlyDiskError),
        (errno.EACCES, DiskError),
    ]:
        error = disk_error(tmp_path, OSError(number, os.strerror(number)))
        assert type(error) is kind
        assert str(error) == f"{tmp_path}: {os.strerror(number)}"
    (tmp_path / "file").touch()
    with pytest.raises(DiskError, match=r"q\.lock: "):
        Lock(tmp_path / "file" / "q.lock", "queue 'q'", "a test")
