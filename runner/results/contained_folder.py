"""Files below one folder, reached through descriptors: no link on the way is ever followed.

What others say of a file's place (a manifest, the keys of a bucket) counts only below a folder that
was opened once, and between a look and a write nobody can put a link to elsewhere in its way. Owns
the opening of that folder and all that is done below it. Must not know stores or keys.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from runner.results.file_placement import make_folders, remove_leftovers_in, temporary_name
from runner.rights import Rights, acting_as

_SEARCH = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC
"""A folder that may only be passed through will do, where the system can say so."""

_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Beneath:
    """The folder open as ``root``, which becomes this object's own; ``close`` gives it back.

    Paths below it are relative, of bytes, and no part of them is empty, `.` or `..` (ValueError).
    With ``rights`` all of it is done with that user's; None: with ours. For any number of threads.
    Everything raises OSError: ELOOP where a link is on the way; and RightsError.
    """

    def __init__(self, root: int, rights: Rights | None = None) -> None:
        self._root = root
        self._rights = rights

    @classmethod
    def open(cls, path: bytes, rights: Rights | None = None, *, make: bool = False) -> Beneath:
        """The folder at ``path``, links in it followed; with ``make`` it is made at need."""
        with acting_as(rights):
            if make:
                make_folders(path)
            return cls(os.open(path, _SEARCH), rights)

    @classmethod
    def open_resolved(cls, path: bytes, *, make: bool = False) -> Beneath:
        """The folder at an absolute path, in which no link is followed; made at need."""
        if not hasattr(os, "O_PATH"):
            # A folder above it may be closed to us but for passing through.
            return cls.open(path, make=make)
        parts = path.strip(b"/")
        with cls(os.open(b"/", _SEARCH)) as top, top._folder(_parts(parts), make=make) as folder:
            return cls(os.dup(folder))

    def close(self) -> None:
        """Give the descriptor back. Can be repeated."""
        if self._root >= 0:
            os.close(self._root)
            self._root = -1

    def __enter__(self) -> Beneath:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def replacing(self, path: bytes, *, durable: bool) -> Iterator[int]:
        """An empty file, open to read and write, that stands at ``path`` when the block ends well.

        Folders are made at need. Otherwise nothing is left of it. ``durable`` syncs the file, not
        its folder. The block runs with our own rights.
        """
        folders, name = _split(path)
        with self._folder(folders, make=True) as folder:
            with acting_as(self._rights):
                temporary, fd = _new_file(folder)
            try:
                try:
                    yield fd
                    if durable:
                        os.fsync(fd)
                finally:
                    os.close(fd)
                with acting_as(self._rights):
                    os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
            except BaseException:
                with acting_as(self._rights), suppress(OSError):
                    os.unlink(temporary, dir_fd=folder)
                raise

    def stat(self, path: bytes) -> os.stat_result:
        """What is at ``path``; if that is a link itself, what it leads to."""
        folders, name = _split(path)
        with self._folder(folders) as folder, acting_as(self._rights):
            return os.stat(name, dir_fd=folder)

    def lstat(self, path: bytes) -> os.stat_result:
        """What is at ``path``."""
        folders, name = _split(path)
        with self._folder(folders) as folder, acting_as(self._rights):
            return os.stat(name, dir_fd=folder, follow_symlinks=False)

    def open_file(self, path: bytes) -> int:
        """The file at ``path``, open to read, for the caller to close. ELOOP if it is a link."""
        folders, name = _split(path)
        with self._folder(folders) as folder, acting_as(self._rights):
            return os.open(name, _READ, dir_fd=folder)

    def read_link(self, path: bytes) -> bytes:
        """Where the link at ``path`` leads, as it says."""
        folders, name = _split(path)
        with self._folder(folders) as folder, acting_as(self._rights):
            return os.readlink(name, dir_fd=folder)

    def make_folder(self, path: bytes) -> None:
        """Make a folder (b"": the root) at need, and remove what killed processes left in it."""
        with self._readable(path, make=True) as fd:
            remove_leftovers_in(fd)

    def remove_leftovers(self, path: bytes, of: int) -> None:
        """Remove what the process ``of`` has left unfinished in a folder (b"": the root)."""
        with self._readable(path) as fd:
            remove_leftovers_in(fd, of=of)

    def sync_folder(self, path: bytes) -> None:
        """Make the names in a folder (b"": the root) survive a power cut."""
        with self._readable(path) as fd:
            os.fsync(fd)

    def free(self, path: bytes) -> int:
        """Bytes that the user of the rights may still write to a folder's disk (b"": the root)."""
        with self._folder(_parts(path)) as folder, acting_as(self._rights):
            found = os.statvfs(folder)
        return found.f_bavail * found.f_frsize

    @contextmanager
    def _readable(self, path: bytes, *, make: bool = False) -> Iterator[int]:
        with self._folder(_parts(path), make=make) as folder:
            with acting_as(self._rights):
                fd = os.open(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
            try:
                with acting_as(self._rights):
                    yield fd
            finally:
                os.close(fd)

    @contextmanager
    def _folder(self, parts: list[bytes], *, make: bool = False) -> Iterator[int]:
        """A descriptor of a folder, step by step from the root."""
        fd = os.dup(self._root)
        try:
            with acting_as(self._rights):
                for part in parts:
                    inner = _step(fd, part, make)
                    os.close(fd)
                    fd = inner
            yield fd
        finally:
            os.close(fd)


def _step(folder: int, name: bytes, make: bool) -> int:
    try:
        return os.open(name, _SEARCH | os.O_NOFOLLOW, dir_fd=folder)
    except FileNotFoundError:
        if not make:
            raise
        with suppress(FileExistsError):
            os.mkdir(name, dir_fd=folder)
        return _step(folder, name, make=False)
    except NotADirectoryError:
        # The kernel says so of a link as well: what it leads to is not looked at.
        if stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            raise OSError(errno.ELOOP, "a link is on the way", name) from None
        raise


def _new_file(folder: int) -> tuple[bytes, int]:
    while True:
        name = temporary_name()
        try:
            return name, os.open(name, _NEW, 0o600, dir_fd=folder)
        except FileExistsError:
            continue  # of a killed process that had our pid


def _split(path: bytes) -> tuple[list[bytes], bytes]:
    if not path:
        raise ValueError("a folder itself is no path below a folder")
    *folders, name = _parts(path)
    return folders, name


def _parts(path: bytes) -> list[bytes]:
    if not path:
        return []
    parts = path.split(b"/")
    if b"\0" in path or not {b"", b".", b".."}.isdisjoint(parts):
        raise ValueError(f"{path!r} is no path below a folder")
    return parts
