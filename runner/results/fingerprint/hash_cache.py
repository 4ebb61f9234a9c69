"""What files held when they were hashed: durable, of this machine, and never trusted too far.

Owns its database, and when an entry can be believed: only if the file has not changed since by
size, time of change, inode and modification, and had not been written so shortly before it was
hashed that a later write may have left the same times (what git calls racily clean). It is a cache:
without it, or where it is damaged, everything is hashed again.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from runner.results.fingerprint.walk import Signature

FINE, COARSE, REMOTE = 0.1, 2.5, 60.0
"""Seconds between a file's last change and its hash, so that a later write shows in its times: of
file systems with times below a hundredth of a second (the kernel's clock ticks every 10 ms at
most), of others (FAT has 2 s), and of servers, whose clocks may be others."""

KEPT = 180 * 86_400
"""Seconds that an entry is kept."""

_BULK = 500
"""So many files are looked up at once: one query for the folder instead of one each."""

_SERVERS = (
    "nfs",
    "cifs",
    "smb",
    "9p",
    "fuse",
    "ceph",
    "gluster",
    "lustre",
    "beegfs",
    "afs",
    "gpfs",
)

_SCHEMA = """
    CREATE TABLE IF NOT EXISTS hashes (
        path BLOB PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
        ctime_ns INTEGER NOT NULL, inode INTEGER NOT NULL, sha256 BLOB NOT NULL,
        hashed_at INTEGER NOT NULL
    ) WITHOUT ROWID
"""
_FIELDS = "size, mtime_ns, ctime_ns, inode, sha256"


class HashCache:
    """For any number of threads and processes. Nothing about its file is ever raised."""

    def __init__(self, path: Path | None) -> None:
        self._lock = threading.Lock()
        self._database = None if path is None else _open(path)
        self._remote = _remote_devices()

    def known(self, wanted: Mapping[str, Signature]) -> dict[str, str]:
        """The sha256, in hex, of the files that are as they were, by path."""
        if self._database is None or not wanted:
            return {}
        rows: Iterable[tuple[bytes, int, int, int, int, bytes]]
        found = {}
        with self._lock, suppress(sqlite3.Error):
            if len(wanted) > _BULK:
                top = os.fsencode(os.path.commonpath(wanted)).rstrip(b"/") + b"/"
                query = f"SELECT path, {_FIELDS} FROM hashes WHERE path >= ? AND path < ?"
                rows = self._database.execute(query, (top, top[:-1] + b"0"))
            else:
                query = f"SELECT path, {_FIELDS} FROM hashes WHERE path = ?"
                one = self._database.execute
                rows = (row for path in wanted for row in one(query, (os.fsencode(path),)))
            for path, size, mtime, ctime, inode, sha in rows:
                name = os.fsdecode(path)
                asked = wanted.get(name)
                if asked is not None and asked[:4] == (size, mtime, ctime, inode):
                    found[name] = sha.hex()
        return found

    def keep(self, hashed: Sequence[tuple[str, Signature, int, str, float]]) -> None:
        """Remember files: path, signature, device, sha256, and when the reading began (wall)."""
        if self._database is None:
            return
        moment = int(time.time())
        rows = [
            (os.fsencode(path), *signature[:4], bytes.fromhex(sha), moment)
            for path, signature, device, sha, began in hashed
            if self.is_settled(signature, device, began)
        ]
        with self._lock, suppress(sqlite3.Error):
            with self._database:
                self._database.executemany(
                    "INSERT OR REPLACE INTO hashes VALUES (?, ?, ?, ?, ?, ?, ?)", rows
                )

    def is_settled(self, signature: Signature, device: int, moment: float) -> bool:
        """Whether a write after ``moment`` (wall time) would show in the file's times."""
        if device in self._remote:
            margin = REMOTE
        else:
            margin = FINE if signature.ctime_ns % 10_000_000 else COARSE
        newest = max(signature.mtime_ns, signature.ctime_ns)
        return newest < int((moment - margin) * 1e9)

    def close(self) -> None:
        """Give the database back."""
        with self._lock, suppress(sqlite3.Error):
            if self._database is not None:
                self._database.close()
                self._database = None


def _open(path: Path) -> sqlite3.Connection | None:
    for again in (False, True):
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            database = sqlite3.connect(path, timeout=5.0, check_same_thread=False)
            try:
                database.execute("PRAGMA journal_mode = WAL")
                database.execute("PRAGMA synchronous = NORMAL")
                database.execute(_SCHEMA)
                with database:
                    old = int(time.time()) - KEPT
                    database.execute("DELETE FROM hashes WHERE hashed_at < ?", (old,))
                return database
            except BaseException:
                database.close()
                raise
        except sqlite3.DatabaseError as error:
            damaged = not isinstance(error, sqlite3.OperationalError)
            if again or not damaged:
                return None
            for more in ("", "-wal", "-shm"):
                path.with_name(f"{path.name}{more}").unlink(missing_ok=True)
        except OSError:
            return None
    return None


def _remote_devices() -> frozenset[int]:
    """The file systems whose times are another machine's."""
    found = set()
    with suppress(OSError, ValueError), open("/proc/self/mountinfo") as lines:
        for line in lines:
            fields, _, rest = line.partition(" - ")
            if rest.startswith(_SERVERS):
                major, _, minor = fields.split()[2].partition(":")
                found.add(os.makedev(int(major), int(minor)))
    return frozenset(found)
