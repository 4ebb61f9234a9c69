"""Copying one open file into another, with the sha256 of the bytes that arrived.

Owns the ways to copy, cheapest first, and how a file that changes meanwhile is noticed. Must not
know keys, names or folders.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Callable
from typing import Protocol

from runner.results.store import Stored
from runner.results.upload.source_file import SourceFile

EMPTY_SHA256 = hashlib.sha256().hexdigest()

_CHUNK = 1 << 20
_ZEROS = bytes(_CHUNK)
_FICLONE = 0x40049409  # linux/fs.h: _IOW(0x94, 9, int)
_TRIES = 3


class _Hash(Protocol):
    def update(self, data: memoryview, /) -> None: ...
    def hexdigest(self) -> str: ...


def copy_file(source: SourceFile, fd: int, target: int) -> Stored:
    """Copy `fd`, opened from `source`, into the empty file `target`; permissions and mtime too.

    A file that changes while it is read is read again, three times in all; the last one stays.
    Raises SourceError where `fd` can't be read, OSError where `target` can't be written.
    """
    for left in reversed(range(_TRIES)):
        before = os.fstat(fd)
        size, sha256 = _copy_once(source, fd, target, before.st_size)
        after = os.fstat(fd)
        changed = (size, before.st_size, before.st_mtime_ns) != (
            after.st_size,
            after.st_size,
            after.st_mtime_ns,
        )
        if not changed or not left:
            break
        os.ftruncate(target, 0)
    mode = before.st_mode & 0o777
    os.fchmod(target, mode)
    os.utime(target, ns=(before.st_mtime_ns, before.st_mtime_ns))
    return Stored(size, sha256, before.st_mtime_ns, mode, changed)


def _go_on() -> None:
    """Nobody ends it."""


def hash_file(fd: int, size: int, between: Callable[[], None] = _go_on) -> str:
    """The sha256 of the first `size` bytes of a file. `between` may raise, to end it."""
    if size == 0:
        return EMPTY_SHA256
    digest: _Hash = hashlib.sha256()
    buffer = memoryview(bytearray(min(_CHUNK, size)))
    done = 0
    while count := os.preadv(fd, [buffer[: size - done]], done):
        digest.update(buffer[:count])
        done += count
        between()
    return digest.hexdigest()


def _copy_once(source: SourceFile, fd: int, target: int, size: int) -> tuple[int, str]:
    """At most `size` bytes: a file that grows all the time has an end all the same."""
    if size == 0:
        return 0, EMPTY_SHA256
    if _clone(fd, target):
        size = os.fstat(target).st_size
        return size, hash_file(target, size, source.check)
    digest: _Hash = hashlib.sha256()
    buffer = memoryview(bytearray(min(_CHUNK, size)))
    done = 0
    while done < size:
        count = source.read_at(fd, buffer[: size - done], done)
        if not count:
            break
        digest.update(buffer[:count])
        data = buffer[:count]
        if not _ZEROS.startswith(data):  # left as a hole: a sparse file stays sparse
            write_at(target, data, done)
        done += count
    os.ftruncate(target, done)  # a hole at the end has to be made
    return done, digest.hexdigest()


def _clone(fd: int, target: int) -> bool:
    """Share the blocks where the file system can (btrfs, XFS): one moment's content, no copy."""
    try:
        fcntl.ioctl(target, _FICLONE, fd)
    except OSError:
        return False
    return True


def write_at(target: int, data: bytes | memoryview, at: int) -> None:
    """Write all of `data` at this offset. Raises OSError."""
    rest = memoryview(data)
    while rest:
        count = os.pwrite(target, rest, at)
        rest, at = rest[count:], at + count
