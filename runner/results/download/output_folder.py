"""The folder that results are fetched into: where a file goes, and whether it is there already.

Owns that nothing is ever written outside of it, whatever a store says. Must not know stores.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from contextlib import AbstractContextManager, suppress
from pathlib import Path

from runner.errors import RunnerError, UsageError
from runner.model.elements import path_of
from runner.results.contained_folder import Beneath
from runner.results.download.download_plan import WantedFile
from runner.results.escape import shown
from runner.results.file_copy import hash_file
from runner.results.manifest import FileEntry

_HOPELESS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})
_MOST_LINKS = 40
"""Of one path, for Linux (path_resolution(7))."""


class PlaceError(RunnerError):
    """A file can't be where it should be: a link, another file or the store itself is there."""


class OutputFolder:
    """Files below the folder `root`. None may be in the folder `store`: it is what is read.

    The folder is opened once, no link below it is followed, and for root no other user's link on
    the way to it: whoever owns the folder can't lead what is written elsewhere. Paths are below it.
    Raises UsageError where `root` can't be such a folder. It is made with the first file.
    """

    def __init__(self, root: Path, store: str | None) -> None:
        self.root = _resolved(os.fsencode(root.absolute()))
        self._store = os.fsencode(store) if store else None
        self._checked: dict[bytes, str | None] = {}
        self._lock = threading.Lock()
        self._opened: Beneath | None = None
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
        return os.fsencode(name)

    def path_of(self, file: WantedFile) -> bytes:
        """The path of a job's file."""
        return self.path(f"{path_of(file.job_id)}/{file.name}")

    def folder_of(self, path: bytes) -> str:
        """The absolute path of the folder that a file is in, for files without a name."""
        return os.fsdecode(os.path.dirname(os.path.join(self.root, path)))

    def check(self, path: bytes) -> None:
        """Raise PlaceError unless a file may be written there; RunnerError without room.

        The first time in each folder that is made, and cleaned of what killed processes left there.
        """
        folder = os.path.dirname(path)
        if folder not in self._checked:
            why = None
            if self._is_in_store(os.path.join(self.root, folder)):
                why = "is not written: that is where the results are stored"
            else:
                try:
                    self._open(make=True).make_folder(folder)
                except OSError as error:
                    if error.errno != errno.ELOOP:
                        raise self.error(error) from None
                    real = os.path.realpath(os.path.join(self.root, folder))
                    told = shown(os.fsdecode(real))
                    why = f"is not written: a link on the way leads to {told}"
            self._checked[folder] = why
        if why := self._checked[folder]:
            raise PlaceError(why)

    def _open(self, *, make: bool = False) -> Beneath:
        """The folder, opened by the path that it had at first: that has no link."""
        with self._lock:
            if self._opened is None:
                self._opened = Beneath.open_resolved(self.root, make=make)
            return self._opened

    def _is_in_store(self, folder: bytes) -> bool:
        return self._store is not None and (folder + b"/").startswith(self._store + b"/")

    def replacing(self, path: bytes) -> AbstractContextManager[int]:
        """An empty file that stands at `path` once the block has ended well. Raises OSError."""
        return self._open(make=True).replacing(path, durable=False)

    def put(self, name: str, data: bytes, mode: int) -> None:
        """Write one small file as a whole. Raises PlaceError; RunnerError without room."""
        path = self.path(name)
        self.check(path)
        try:
            with self.replacing(path) as fd:
                _write_all(fd, data)
                os.fchmod(fd, mode)
        except OSError as error:
            raise self.error(error)

    def has(self, name: str) -> bool:
        """Whether anything is there, be it a link to nothing."""
        try:
            self._open().lstat(self.path(name))
        except OSError as error:
            return error.errno not in (errno.ENOENT, errno.ENOTDIR)
        return True

    def read(self, name: str) -> bytes | None:
        """All of a small file; None if there is none. Raises OSError, also for what is no file."""
        try:
            fd = self._open().open_file(self.path(name))
        except FileNotFoundError:
            return None
        with open(fd, "rb") as file:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise OSError(errno.EINVAL, "is not a file", name)
            return file.read()

    def difference(self, path: bytes, file: FileEntry, *, mend: bool) -> str | None:
        """How the file at `path` differs from the stored one, in words; None if it doesn't.

        Only one of the right size is read. With `mend` its permissions and time are put right.
        """
        try:
            fd = self._open().open_file(path)
        except (FileNotFoundError, NotADirectoryError):
            return "is missing"
        except OSError as error:
            return "is a link" if error.errno == errno.ELOOP else f"can't be read: {error.strerror}"
        try:
            return _difference(fd, file, mend=mend)
        except OSError as error:
            return f"can't be read: {error.strerror}"
        finally:
            os.close(fd)

    def error(self, error: OSError) -> RunnerError:
        """What to raise for an error of the file system: PlaceError if it is about one file."""
        if error.errno in _HOPELESS:
            return RunnerError(f"{self.told} can't be written to: {error.strerror}")
        return PlaceError(f"can't be written: {error.strerror}")

    def clean_up(self) -> None:
        """Remove this process's own unfinished files: it is about to end, whoever still writes."""
        for folder, why in list(self._checked.items()):
            if why is None:
                with suppress(OSError):
                    self._open().remove_leftovers(folder, of=os.getpid())


def _resolved(path: bytes) -> bytes:
    """The path without links. Raises UsageError where another user's would lead root.

    What they point to can be changed at any moment by who made them.
    """
    if os.geteuid() == 0 and (link := _foreign_link(path)) is not None:
        told = shown(os.fsdecode(link))
        raise UsageError(f"--output: {told} is a link of another user's; give the folder itself")
    return os.path.realpath(path)


def _foreign_link(path: bytes) -> bytes | None:
    """The first link on the way, or on the way of another one, that isn't root's."""
    pending, way, links = path.split(b"/"), b"/", 0
    while pending:
        part = pending.pop(0)
        if part in (b"", b"."):
            continue
        here = os.path.dirname(way) if part == b".." else os.path.join(way, part)
        if os.path.islink(here) and links < _MOST_LINKS:
            if os.lstat(here).st_uid != 0:
                return here
            links += 1
            target = os.readlink(here)
            pending[:0] = target.split(b"/")
            way = b"/" if target.startswith(b"/") else way
            continue
        way = here
    return None


def _difference(fd: int, file: FileEntry, *, mend: bool) -> str | None:
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode):
        return "is not a file"
    if found.st_size != file.size:
        return f"differs: {found.st_size} bytes, not {file.size}"
    if hash_file(fd, found.st_size) != file.sha256:
        return "differs: the same size, but other bytes"
    now = (found.st_mode & 0o777, found.st_mtime_ns)
    # A file that has another name elsewhere is not changed: it may be somebody else's there.
    if mend and found.st_nlink == 1 and now != (file.mode & 0o777, file.mtime_ns):
        with suppress(PermissionError):
            dress(fd, file)
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
