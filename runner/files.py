"""Files that are replaced whole: readers see the former one or the new one, also after a power cut.

Owns the order of write, sync, rename and sync of the folder, and the name of what is not finished.
Files of jobs are another matter: they are reached through links that a job may have changed
(``results.file_placement``).
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path


def unfinished(path: Path) -> Path:
    """What a writer of this file leaves beside it when it is killed."""
    return path.with_name(f".{path.name}.new")


def replace_file(
    path: Path, pieces: Iterable[bytes], *, mode: int = 0o644, durable: bool = True
) -> None:
    """Put these bytes in the place of the file. ``mode``: its permissions, whatever the umask.

    One writer at a time: the unfinished file's name is always the same, so that one that a killed
    process has left is written over. ``durable``: a power cut after the return loses nothing.
    Raises OSError, and then the former file stays and nothing is left beside it.
    """
    temporary = unfinished(path)
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode & 0o600)
        with open(fd, "wb") as file:
            os.fchmod(fd, mode)
            file.writelines(pieces)
            file.flush()
            if durable:
                os.fsync(fd)
        os.replace(temporary, path)
        if durable:
            sync_folder(path.parent)
    except BaseException:
        with suppress(OSError):  # half a record would keep a full disk full
            temporary.unlink(missing_ok=True)
        raise


def sync_folder(folder: Path | str | bytes) -> None:
    """Make the names in this folder survive a power cut. Raises OSError."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
