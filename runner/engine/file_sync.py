"""Syncing the file systems that a job wrote to: what the state calls done is on the disk too."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence

from runner.rights import Rights, acting_as


def sync_for(
    working_directory: str, result_paths: Sequence[str], rights: Rights | None = None
) -> None:
    """syncfs(2) each file system of the folder and of the result paths, once.

    ``rights``: with whose the paths are followed; None: with our own.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    seen: set[int] = set()
    for path in (working_directory, *(_fixed_part(working_directory, p) for p in result_paths)):
        with acting_as(rights):
            fd = _open_nearest(path)
        if fd is None:
            continue
        try:
            device = os.fstat(fd).st_dev
            if device not in seen:
                seen.add(device)
                libc.syncfs(fd)
        finally:
            os.close(fd)


def _fixed_part(working_directory: str, pattern: str) -> str:
    path = os.path.join(working_directory, pattern)
    wild = min((i for c in "*?[" if (i := path.find(c)) >= 0), default=len(path))
    return os.path.dirname(path[: wild + 1])


def _open_nearest(path: str) -> int | None:
    """The folder, or the nearest one above it that is there."""
    while True:
        try:
            return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            parent = os.path.dirname(path)
            if parent == path:
                return None
            path = parent
