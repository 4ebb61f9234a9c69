"""Opening a file that a job made, without being led elsewhere or being made to wait.

Owns the flags and checks of that open. Must not know why the file is read or where it goes.
"""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from threading import Event

from runner.errors import RunnerError
from runner.results.escape import shown
from runner.results.upload.progress import Progress
from runner.rights import Rights, acting_as

# Where there is no O_PATH nobody has another user's jobs.
_FOLDER = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


MOST_WITHOUT_SIZE = 16 << 20
"""Bytes of the largest file without a size that is read: it is held in memory."""


class SourceError(RunnerError):
    """One file can't be read: it is gone, not a regular file, or not ours to read.

    The store is well; what is stored goes on without this file.
    """


class WithdrawnError(RunnerError):
    """The file may be written to from now on: what was read of it so far is not to be used."""


@dataclass(frozen=True, slots=True)
class SourceFile:
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
                found = _lstat(self.path)
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
            if self._regular(os.fstat(fd)).st_size == 0 and not self.ours:
                fd = self._really_empty(fd)
            yield fd
        finally:
            os.close(fd)

    def _really_empty(self, fd: int) -> int:
        """The descriptor; or, in its place, one of a copy where a file without size has bytes.

        So are those of procfs, made while they are read (proc(5)). Raises SourceError.
        """
        try:
            with acting_as(self.rights):
                data = os.pread(fd, 1, 0)
                if not data or os.fstat(fd).st_size:
                    return fd
                data = _read_to_end(fd)
        except OSError as error:
            raise self.error(error) from error
        if len(data) > MOST_WITHOUT_SIZE:
            raise SourceError(f"{shown(self.path)} has no size, and is too large to be read so")
        if self.path.startswith(f"/proc/{os.getpid()}/"):
            raise SourceError(f"{shown(self.path)} is about this process, and not the job's")
        copy = _copy_of(data, os.fstat(fd).st_mode)
        os.close(fd)
        return copy

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


def _read_to_end(fd: int) -> bytes:
    """All of a file, or more of it than is read in this way."""
    data = bytearray()
    while len(data) <= MOST_WITHOUT_SIZE and (more := os.pread(fd, 1 << 20, len(data))):
        data += more
    return bytes(data)


def _copy_of(data: bytes, mode: int) -> int:
    """A file without a name that holds ``data``; its time is now, for so old are these bytes."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("result")
    else:
        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    try:
        written = 0
        while written < len(data):
            written += os.write(fd, data[written:])
        os.fchmod(fd, stat.S_IMODE(mode))
    except BaseException:
        os.close(fd)
        raise
    return fd


def kind(mode: int) -> str:
    """What a file that isn't regular is, in words."""
    if stat.S_ISLNK(mode):
        return "a link"
    if stat.S_ISDIR(mode):
        return "a folder"
    if stat.S_ISFIFO(mode):
        return "a fifo"
    return "a socket" if stat.S_ISSOCK(mode) else "a device"


@contextmanager
def scan(folder: str, real: str) -> Iterator[Iterator[os.DirEntry[str]]]:
    """os.scandir of a folder, also of one whose path is longer than the kernel takes.

    `real`: the folder's path without links. The entries' own paths are not to be used. Raises
    OSError.
    """
    try:
        entries = os.scandir(folder)
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        with _without_links(f"{real}/.") as (at, name):
            fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=at)
        try:
            with os.scandir(fd) as entries:
                yield entries
        finally:
            os.close(fd)
        return
    with entries:
        yield entries


def _lstat(path: str) -> os.stat_result:
    try:
        return os.lstat(path)
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
    with _without_links(path) as (at, name):
        return os.stat(name, dir_fd=at, follow_symlinks=False)


def _open_without_links(path: str) -> int:
    with _without_links(path) as (at, name):
        return os.open(name, _FILE, dir_fd=at)


@contextmanager
def _without_links(path: str) -> Iterator[tuple[int, str]]:
    """The folder of a path, opened part by part, however many, and what is named in it."""
    *folders, name = path.strip("/").split("/")
    at = os.open("/", _FOLDER)
    try:
        for folder in folders:
            below = os.open(folder, _FOLDER, dir_fd=at)
            os.close(at)
            at = below
        yield at, name
    finally:
        os.close(at)
