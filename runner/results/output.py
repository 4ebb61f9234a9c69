"""The folder that results are fetched into: where a file goes, and whether it is there already.

Owns that nothing is ever written outside of it, whatever a store says. Must not know stores.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from contextlib import suppress
from pathlib import Path

from runner.errors import RunnerError, UsageError
from runner.results.copying import hash_file
from runner.results.escape import TEMPORARY, shown
from runner.results.manifest import FileEntry
from runner.results.placing import remove_leftovers, replacing
from runner.results.wanted import Wanted

_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_LEFTOVER = re.compile(re.escape(TEMPORARY.encode()) + rb"([0-9]+)-[0-9]+")
_HOPELESS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})


class PlaceError(RunnerError):
    """A file can't be where it should be: a link, another file or the store itself is there."""


class OutputFolder:
    """Files below the folder `root`. None may be in the folder `store`: it is what is read.

    Raises UsageError where `root` can't be such a folder. It is made with the first file.
    """

    def __init__(self, root: Path, store: str | None) -> None:
        self.root = os.path.realpath(os.fsencode(root.absolute()))
        self._store = os.fsencode(store) if store else None
        self._checked: dict[bytes, str | None] = {}
        if os.path.lexists(self.root) and not os.path.isdir(self.root):
            raise UsageError(f"--output: {self.told} is not a folder")
        if self._is_in_store(self.root):
            raise UsageError(
                f"--output: {self.told} is where the results are stored; give another folder"
            )

    @property
    def told(self) -> str:
        """The folder, for people."""
        return shown(os.fsdecode(self.root))

    def path(self, name: str) -> bytes:
        """The path of a file; `name` is relative, and no part of it is `.` or `..`."""
        return self.root + b"/" + os.fsencode(name)

    def path_of(self, file: Wanted) -> bytes:
        """The path of a job's file."""
        return self.path(f"{file.job_id}/{file.name}")

    def check(self, path: bytes) -> None:
        """Raise PlaceError unless a file may be written there.

        The first time in each folder it is also cleaned of what killed processes left there.
        """
        folder = os.path.dirname(path)
        if folder not in self._checked:
            why = self._refusal(folder)
            if why is None:
                remove_leftovers(folder)
            self._checked[folder] = why
        if why := self._checked[folder]:
            raise PlaceError(why)

    def _refusal(self, folder: bytes) -> str | None:
        real = os.path.realpath(folder)
        if real != folder:
            return f"is not written: a link on the way leads to {shown(os.fsdecode(real))}"
        if self._is_in_store(folder):
            return "is not written: that is where the results are stored"
        return None

    def _is_in_store(self, folder: bytes) -> bool:
        return self._store is not None and (folder + b"/").startswith(self._store + b"/")

    def put(self, name: str, data: bytes, mode: int) -> None:
        """Write one small file as a whole. Raises PlaceError; RunnerError without room."""
        path = self.path(name)
        self.check(path)
        try:
            with replacing(path, durable=False) as fd:
                _write_all(fd, data)
                os.fchmod(fd, mode)
        except OSError as error:
            raise self.error(error)

    def error(self, error: OSError) -> RunnerError:
        """What to raise for an error of the file system: PlaceError if it is about one file."""
        if error.errno in _HOPELESS:
            return RunnerError(f"{self.told} can't be written to: {error.strerror}")
        return PlaceError(f"can't be written: {error.strerror}")

    def clean_up(self) -> None:
        """Remove this process's own unfinished files: it is about to end, whoever still writes."""
        for folder, why in list(self._checked.items()):
            if why is None:
                remove_leftovers(folder, of=os.getpid())


def difference(path: bytes, file: FileEntry, *, mend: bool) -> str | None:
    """How the file at `path` differs from the stored one, in words; None if it doesn't.

    Only one of the right size is read. With `mend` its permissions and time are put right.
    """
    try:
        fd = os.open(path, _OPEN)
    except (FileNotFoundError, NotADirectoryError):
        return "is missing"
    except OSError as error:
        return "is a link" if error.errno == errno.ELOOP else f"can't be read: {error.strerror}"
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            return "is not a file"
        if found.st_size != file.size:
            return f"differs: {found.st_size} bytes, not {file.size}"
        if hash_file(fd, found.st_size) != file.sha256:
            return "differs: the same size, but other bytes"
        if mend and (found.st_mode & 0o777, found.st_mtime_ns) != (
            file.mode & 0o777,
            file.mtime_ns,
        ):
            with suppress(PermissionError):
                dress(fd, file)
    except OSError as error:
        return f"can't be read: {error.strerror}"
    finally:
        os.close(fd)
    return None


def dress(fd: int, file: FileEntry) -> None:
    """Give a file the permissions and the time of the stored one. Raises OSError."""
    os.fchmod(fd, file.mode & 0o777)
    with suppress(OSError, OverflowError, ValueError):
        os.utime(fd, ns=(file.mtime_ns, file.mtime_ns))


def _write_all(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]
