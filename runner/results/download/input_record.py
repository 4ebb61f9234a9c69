"""What is remembered of fetched inputs, so that what is there unchanged isn't fetched again.

Owns the record's file. Must not know stores.
"""

from __future__ import annotations

import json
import os
import stat
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from runner.results.file_placement import replacing
from runner.results.store import Entry
from runner.rights import Rights, acting_as

_SAVE_COSTS = 20
"""The record is written so seldom that it takes no more than 1/20 of the time."""


class InputRecord:
    """Which version of which key each file is, in one file of the queue's folder for each job.

    What another job has had fetched to the same place counts as well. A record that can't be read
    or written costs a second look, and nothing else. The record is ours; `rights` are those with
    which the inputs are looked at, None: our own.
    """

    def __init__(self, path: Path, rights: Rights | None = None) -> None:
        self._path = path
        self._rights = rights
        self._files = dict(_read(path))
        self._others: dict[str, _Stamp] | None = None
        self._lock = threading.Lock()
        self._changed = False
        self._due = 0.0

    def knows(self, path: str, entry: Entry) -> bool:
        """Whether the file is there, untouched, and this version of the key."""
        stamp = self._stamp(path, entry.etag)
        if stamp is None or stamp[1] != entry.size:
            return False
        return stamp == self._files.get(path) or stamp == self._of_others().get(path)

    def _of_others(self) -> dict[str, _Stamp]:
        with self._lock:
            if self._others is None:
                self._others = {}
                for record in self._path.parent.glob("*.json"):
                    for name, stamp in _read(record):
                        known = self._others.get(name)
                        if known is None or known[2] < stamp[2]:
                            self._others[name] = stamp
            return self._others

    def note(self, path: str, entry: Entry) -> None:
        """The file is this version of the key."""
        if (stamp := self._stamp(path, entry.etag)) is None:
            return
        with self._lock:
            if self._files.get(path) == stamp:
                return
            self._files[path] = stamp
            self._changed = True
            if time.monotonic() >= self._due:
                self._save()

    def _stamp(self, path: str, etag: str) -> _Stamp | None:
        try:
            with acting_as(self._rights):
                found = os.lstat(path)
        except OSError:
            return None
        return (etag, found.st_size, found.st_mtime_ns) if stat.S_ISREG(found.st_mode) else None

    def save(self) -> None:
        """Write it, if there is something new in it."""
        with self._lock:
            if self._changed:
                self._save()

    def _save(self) -> None:
        begun = time.monotonic()
        data = json.dumps({"version": 1, "files": self._files}, separators=(",", ":"))
        with suppress(OSError), replacing(os.fsencode(self._path), durable=False) as fd:
            os.fchmod(fd, 0o600)
            rest = memoryview(data.encode())
            while rest:
                rest = rest[os.write(fd, rest) :]
        self._changed = False
        ended = time.monotonic()
        self._due = ended + _SAVE_COSTS * (ended - begun)


_Stamp = tuple[str, int, int]


def _read(path: Path) -> Iterable[tuple[str, _Stamp]]:
    try:
        files = json.loads(path.read_bytes())["files"]
        return [(name, (str(e), int(size), int(mtime))) for name, (e, size, mtime) in files.items()]
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return []
