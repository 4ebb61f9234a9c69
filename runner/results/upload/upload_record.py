"""What an upload has stored so far, noted on this machine: the next try doesn't begin anew.

Only a shortcut. What is noted counts as long as the store's own listing shows the very same object,
and the file here is as it was; a record that can't be written or read costs nothing but time.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from runner.errors import StateError
from runner.model.records import Name, decode, read
from runner.results.manifest import FileEntry, file_to_json
from runner.results.store import Entry

WRITE_AFTER = 5.0
"""Seconds that an upload has taken when its files begin to be noted: most are done by then."""

_APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Noted:
    """A file that is stored, and the store's name for that object. ``store``: which one it is."""

    run_id: Name
    store: str
    etag: str
    file: FileEntry


class UploadRecord:
    """The record of one job's upload by one run to one store; without a ``path`` there is none.

    ``note`` is called by any thread.
    """

    def __init__(self, path: Path | None, run_id: str, store: str) -> None:
        self._path = path
        self._run_id = run_id
        self._store = store
        self._begun = time.monotonic()
        self._lock = threading.Lock()
        self._unwritten: list[bytes] = []

    def read(self, there: Mapping[str, Entry]) -> dict[str, FileEntry]:
        """What earlier tries have stored of what is ``there``, by key."""
        found: dict[str, FileEntry] = {}
        for line in self._lines():
            with suppress(StateError):  # the last one may be cut
                noted = read(Noted, decode(line, "a note"), "a note")
                file, entry = noted.file, there.get(noted.file.key)
                ours = (noted.run_id, noted.store) == (self._run_id, self._store)
                if ours and entry and (entry.size, entry.etag) == (file.size, noted.etag):
                    found[file.key] = file
        return found

    def _lines(self) -> list[bytes]:
        if self._path is None:
            return []
        try:
            return self._path.read_bytes().splitlines()
        except OSError:
            return []

    def note(self, file: FileEntry, etag: str) -> None:
        """It is stored. Written at once if the upload has taken long, else by `write`."""
        if self._path is None or not etag:
            return
        noted = Noted(self._run_id, self._store, etag, file)
        line = json.dumps({**asdict(noted), "file": file_to_json(file)}).encode()
        with self._lock:
            self._unwritten.append(line)
        if time.monotonic() - self._begun > WRITE_AFTER:
            self.write()

    def write(self) -> None:
        """Write what was noted; without a sync, for a power cut may cost a few uploads."""
        with self._lock:
            lines, self._unwritten = self._unwritten, []
            if not lines or self._path is None:
                return
            with suppress(OSError):
                self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                fd = os.open(self._path, _APPEND, 0o600)
                try:
                    # What was cut before it stays a line of its own.
                    os.write(fd, b"\n" + b"\n".join(lines) + b"\n")
                finally:
                    os.close(fd)

    def remove(self) -> None:
        """All is stored, or has to be looked at anew."""
        if self._path is not None:
            with suppress(OSError):
                self._path.unlink(missing_ok=True)
