"""Files and links that are there whole or as they were, also after a power cut."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path


def write(path: Path, data: bytes) -> None:
    """A file, whole or as it was."""
    if path.is_file() and not path.is_symlink() and path.read_bytes() == data:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = beside_of(path)
    try:
        with open(beside, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.rename(path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise
    sync(path.parent)


def replace_link(link: Path, target: str) -> None:
    """A link, to its new target or still to its old one."""
    if link.is_symlink() and os.readlink(link) == target:
        return
    link.parent.mkdir(parents=True, exist_ok=True)
    beside = beside_of(link)
    beside.unlink(missing_ok=True)
    beside.symlink_to(target)
    beside.rename(link)
    sync(link.parent)


def beside_of(path: Path) -> Path:
    """Where the next content is made; a writer that was killed leaves it there."""
    return path.with_name(f".{path.name}.new")


def nearest(path: Path) -> Path:
    """The path itself, or the folder that it will be made in."""
    while not path.exists():
        path = path.parent
    return path


def sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
