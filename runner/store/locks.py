"""Who owns a queue, or a state folder: an flock with its holder's name written in the file.

The kernel releases it when the holder dies, so a stale file never locks anybody out. Descriptors
are close-on-exec: no job inherits a lock.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from runner.errors import LockedError, disk_error

TRIES = 5
BETWEEN_TRIES = 0.01
"""Seconds. A lock that nobody owns may be held for a moment all the same: by one who only asks
whose it is, or, when its owner was killed, by a child of it between fork and exec."""


class Lock:
    """Held from construction until ``release``. Raises LockedError naming the holder, DiskError."""

    def __init__(self, path: Path, what: str, holder: str) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise disk_error(path, error) from None
        if not _taken(self._fd):
            by = os.pread(self._fd, 300, 0).decode("utf-8", "replace").strip()
            os.close(self._fd)
            raise LockedError(f"{what} is in use by {by or 'another process'}") from None
        try:
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, f"{holder} (pid {os.getpid()})\n".encode(), 0)
        except OSError:
            # A full disk: the lock holds all the same, only without a name.
            pass

    def release(self) -> None:
        os.close(self._fd)


def _taken(fd: int) -> bool:
    for _ in range(TRIES):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError:
            time.sleep(BETWEEN_TRIES)  # reason: the kernel tells of a free lock only who blocks
    return False


def holder_of(path: Path) -> str | None:
    """Who holds the lock, or None if nobody does."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return None
    except OSError:
        return os.pread(fd, 300, 0).decode("utf-8", "replace").strip() or "another process"
    finally:
        os.close(fd)
