"""Opening a file that a job made, without being led elsewhere or being made to wait.

Owns the flags and checks of that open. Must not know why the file is read or where it goes.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from threading import Event

from runner.errors import RunnerError
from runner.results.escape import shown
from runner.results.progress import Progress
from runner.rights import Rights, acting_as

# Where there is no O_PATH nobody has another user's jobs.
_FOLDER = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class SourceError(RunnerError):
    """One file can't be read: it is gone, not a regular file, or not ours to read.

    The store is well; what is stored goes on without this file.
    """


class WithdrawnError(RunnerError):
    """The file may be written to from now on: what was read of it so far is not to be used."""


@dataclass(frozen=True, slots=True)
class Source:
    """A file to store. `path` is absolute; `rights`: with whose it is opened, None: our own.

    No part of a job's path may be a link (`ours` false): one that has become a link since it was
    looked at is refused, so no job can swap a folder under us. In a path of ours only the last
    part is held to that. Once `withdrawn` is set others may write to the file: no byte that was
    read after that is passed on. `progress` is told how its upload comes along.
    """

    path: str
    ours: bool = False
    rights: Rights | None = None
    withdrawn: Event | None = field(default=None, compare=False)
    progress: Progress | None = field(default=None, compare=False)

    def stat(self) -> os.stat_result:
        """What the file is, without opening it. Raises SourceError, also if it isn't regular."""
        try:
            with acting_as(self.rights):
                found = os.lstat(self.path)
        except OSError as error:
            raise self.error(error)
        return self._regular(found)

    @contextmanager
    def open(self) -> Iterator[int]:
        """A descriptor to read the file from, closed at the end. Raises SourceError."""
        try:
            with acting_as(self.rights):
                fd = os.open(self.path, _FILE) if self.ours else _open_without_links(self.path)
        except OSError as error:
            raise self.error(error) from error
        try:
            self._regular(os.fstat(fd))
            yield fd
        finally:
            os.close(fd)

    def read_at(self, fd: int, buffer: memoryview, at: int) -> int:
        """Read into `buffer` from the descriptor that `open` gave. Raises SourceError."""
        try:
            count = os.preadv(fd, [buffer], at)
        except OSError as error:
            raise self.error(error) from error
        self.check()
        return count

    def check(self) -> None:
        """Raise WithdrawnError once it is withdrawn."""
        if self.withdrawn is not None and self.withdrawn.is_set():
            raise WithdrawnError(f"{shown(self.path)} may be changed from now on")

    def working(self) -> AbstractContextManager[None]:
        """While this machine alone is at work on the file: see Progress."""
        return nullcontext() if self.progress is None else self.progress.working()

    def error(self, error: OSError) -> SourceError:
        """The error to raise when the OS refuses something about this file."""
        return SourceError(f"{shown(self.path)} can't be read: {error.strerror}")

    def _regular(self, found: os.stat_result) -> os.stat_result:
        if not stat.S_ISREG(found.st_mode):
            raise SourceError(f"{shown(self.path)} is {kind(found.st_mode)}, not a file")
        return found


def kind(mode: int) -> str:
    """What a file that isn't regular is, in words."""
    if stat.S_ISLNK(mode):
        return "a link"
    if stat.S_ISDIR(mode):
        return "a folder"
    if stat.S_ISFIFO(mode):
        return "a fifo"
    return "a socket" if stat.S_ISSOCK(mode) else "a device"


def _open_without_links(path: str) -> int:
    *folders, name = path.strip("/").split("/")
    at = os.open("/", _FOLDER)
    try:
        for folder in folders:
            below = os.open(folder, _FOLDER, dir_fd=at)
            os.close(at)
            at = below
        return os.open(name, _FILE, dir_fd=at)
    finally:
        os.close(at)
