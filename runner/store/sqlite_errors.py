"""SQLite's errors as ours: what may pass, and what is damage.

Nothing that the disk, a lock or a permission refused is told as damage: a person would be sent to
an older copy. Where SQLite itself can't tell, the bytes are judged. `status` begins here: what only
that needs is imported there.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from runner.errors import (
    DamagedError,
    DatabaseBusyError,
    DiskError,
    DiskFailingError,
    DiskFullError,
    ReadOnlyDiskError,
    RecordError,
    StateError,
)

ADVICE = "it was left as it is: restore it from a copy, or begin anew with --fresh"


_MAY_PASS = frozenset(
    (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_PERM)
)
"""Primary result codes that say nothing of the content: no descriptor, no memory, no inode for the
log, no permission (sqlite.org/rescode.html)."""

_KINDS: dict[int, type[DiskError]] = {
    sqlite3.SQLITE_FULL: DiskFullError,
    sqlite3.SQLITE_BUSY: DatabaseBusyError,
    sqlite3.SQLITE_LOCKED: DatabaseBusyError,
    sqlite3.SQLITE_READONLY: ReadOnlyDiskError,
    sqlite3.SQLITE_IOERR: DiskFailingError,
} | dict.fromkeys(_MAY_PASS, DiskError)


_MAY_BE_DAMAGE = frozenset((sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB))
"""EIO on a read is told as SQLITE_CORRUPT too (os_unix.c, unixRead: SQLITE_IOERR_CORRUPTFS)."""

LOOKS = 3
"""How often files are looked at that are being written to."""


@contextmanager
def translated(path: Path, *, writing: bool = False) -> Iterator[None]:
    """SQLite's errors as ours. A call that is wrong in itself (ProgrammingError) stays what it is.

    Nothing that the disk, a lock or a permission refused is told as damage.
    """
    try:
        yield
    except (sqlite3.ProgrammingError, sqlite3.InterfaceError):
        raise
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", None)
        kind = _KINDS.get(code & 0xFF) if code is not None else None
        if code is not None and code & 0xFF in _MAY_BE_DAMAGE:
            raise judged(path, str(error)) from error
        if kind is None:
            told = f"{path} can't be read as a state ({error}); {ADVICE}"
            raise DamagedError(told) from error
        raise _refined(kind, path)(f"{path}: {error}{_HINTS.get(kind, '')}") from error
    except RecordError as error:
        raise DamagedError(f"{error}; {ADVICE}") from None
    except (ValueError, TypeError, KeyError) as error:
        if writing:
            # Of a value of ours; it says nothing of what is there.
            raise StateError(f"{path}: nothing was written: {error}") from error
        told = f"{path} holds a record that can't be read ({error}); {ADVICE}"
        raise DamagedError(told) from error


_HINTS: dict[type[DiskError], str] = {
    DiskError: "; check the folder's permissions, and what its disk has left",
    ReadOnlyDiskError: "; check the folder's permissions, and how its file system is mounted",
    DatabaseBusyError: ": another process holds its lock",
}


def _refined(kind: type[DiskError], path: Path) -> type[DiskError]:
    """SQLite tells of a full disk as such only where it writes pages, and not of its other files.

    unixOpenSharedMemory answers ENOSPC with SQLITE_IOERR_SHMSIZE, or SQLITE_CANTOPEN (os_unix.c).
    """
    if kind in (DiskFailingError, DiskError):
        try:
            stat = os.statvfs(path.parent)
        except OSError:
            return kind
        if not stat.f_bavail or (stat.f_files and not stat.f_favail):
            return DiskFullError
    return kind


def judged(path: Path, told: str) -> StateError | DiskError:
    """The error for a database that SQLite calls malformed: of its bytes, or of a passing fault.

    Blocks for some milliseconds.
    """
    files = [path, path.with_name(f"{path.name}-wal")]
    for _ in range(LOOKS):
        before = _marks(files)
        try:
            well = _copy_is_well(path, files)
        except OSError:
            # Short of space, or of processes: it can't be judged now.
            well = True
        if well:
            told = f"{path}: {told}, but nothing is wrong with what is on the disk: a read failed"
            return DiskFailingError(told)
        if _marks(files) == before:
            break
    return DamagedError(f"{path} can't be read as a state ({told}); {ADVICE}")


def _marks(files: list[Path]) -> list[tuple[int, int, int] | None]:
    """Changes with every write to one of them."""
    marks: list[tuple[int, int, int] | None] = []
    for file in files:
        try:
            stat = file.stat()
            marks.append((stat.st_ino, stat.st_size, stat.st_mtime_ns))
        except OSError:
            marks.append(None)
    return marks


def _copy_is_well(path: Path, files: list[Path]) -> bool:
    """Whether a copy of the database and its log is sound; also if none can be made.

    By another process: to close a descriptor of the file in this one would drop SQLite's locks on
    it (fcntl(2), those of every connection here).
    """
    import subprocess
    import tempfile

    with tempfile.TemporaryDirectory(prefix="runner-look-") as folder:
        words = ["cp", "--", *(str(file) for file in files if file.exists()), folder]
        if subprocess.run(words, stderr=subprocess.DEVNULL, check=False).returncode:
            return True
        copy = Path(folder) / path.name
        try:
            with closing(sqlite3.connect(f"{copy.as_uri()}?mode=rw", uri=True)) as connection:
                (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
                return bool(verdict == "ok")
        except sqlite3.Error:
            return False
