"""Room of its own for a database's log, so that a step can be written on a full disk.

The blocks are reserved beyond the end of ``state.db-wal`` (fallocate(2), FALLOC_FL_KEEP_SIZE);
SQLite grows into them, and begins anew after each checkpoint. Where a file system can't do that
there is none, and a step waits for space as it would without.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

ROOM = 4 << 20
"""Bytes: some hundred steps."""

SHARE = 16
"""At most one part in so many of what is free: a small disk is for more than this."""

_KEEP_SIZE = 1  # FALLOC_FL_KEEP_SIZE in <linux/falloc.h>


def keep_room(log: Path) -> bool:
    """Reserve it for a log that is there; whether that was done. To repeat it costs nothing."""
    with suppress(OSError):
        fd = os.open(log, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            stat = os.fstatvfs(fd)
            size = min(ROOM, stat.f_bavail * stat.f_frsize // SHARE)
            has = os.fstat(fd).st_blocks * 512
            return has >= ROOM or _fallocate(fd, max(size, has))
        finally:
            os.close(fd)
    return False


def _fallocate(fd: int, size: int) -> bool:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    return bool(libc.fallocate(fd, _KEEP_SIZE, 0, size) == 0)
