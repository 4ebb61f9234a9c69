"""The random name of a state folder, made once and kept in it.

Machines may share all else that tells them apart: clones of one image, and containers, have one
machine-id. Two state folders don't work on one queue as if they were one.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from pathlib import Path

from runner.errors import disk_error
from runner.files import sync_folder
from runner.store.paths import remove_stale

_SIZE = 64


_one_thread = threading.Lock()
"""The name of what is being made is this process's."""


def folder_id(path: Path, *, durable: bool = True) -> bytes:
    """What is in the file at ``path``; it is made if there is none. Raises DiskError.

    ``durable``: it survives a power cut, before it is used. Of several processes that make it at
    once all get the same. A file that holds something else is kept: any bytes will do.
    """
    try:
        with _one_thread:
            remove_stale(path)
            if found := _read(path):
                return found
            _make(path, durable)
            return _read(path)
    except OSError as error:
        raise disk_error(path, error) from None


def _read(path: Path) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return b""
    try:
        return os.read(fd, _SIZE).strip()
    finally:
        os.close(fd)


def _make(path: Path, durable: bool) -> None:
    """Whole or not at all: an empty file is what a power cut may have left of another program."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        try:
            os.write(fd, os.urandom(16).hex().encode() + b"\n")
            if durable:
                os.fsync(fd)
        finally:
            os.close(fd)
        try:
            os.link(temporary, path)
        except FileExistsError:
            if not _read(path):
                os.rename(temporary, path)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
    if durable:
        sync_folder(path.parent)
