"""The contents of many files: read by several threads, each as a whole or not at all."""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

from runner.results.escape import shown
from runner.results.fingerprint.hash_cache import HashCache
from runner.results.fingerprint.walk import FoundEntry, Signature
from runner.rights import Rights, acting_as

THREADS = 4
BATCH = 400
"""Files a thread takes at once; what was hashed is remembered after each."""

BATCH_BYTES = 256 << 20
PIECE = 1 << 20
"""Bytes read at once."""

_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY

_Hashed = tuple[str, Signature, int, str, float]


class ChangedMeanwhileError(Exception):
    """A file isn't any more what it was when it was looked at; the text names it."""


def hash_all(
    seen: Mapping[str, FoundEntry],
    cache: HashCache,
    *,
    rights: Rights | None = None,
    check: Callable[[], None] = lambda: None,
) -> tuple[dict[str, str], list[str]]:
    """What each entry is, by name, and what can't be known. ``check`` ends it by raising.

    A regular file is its sha256, as it was at one moment. Raises RightsError.
    """
    wanted = {each.path: each.signature for each in seen.values() if each.signature is not None}
    known = cache.known(wanted)
    devices = {each.path: each.device for each in seen.values()}
    unreadable: list[str] = []
    todo = [path for path in wanted if path not in known]
    if todo:
        batches = list(_batches(todo, wanted))
        # As many as there are processors: hashing is all they do.
        with ThreadPoolExecutor(min(THREADS, len(batches)), thread_name_prefix="hash") as pool:
            works = [
                pool.submit(_hash_batch, batch, wanted, devices, rights, check) for batch in batches
            ]
            try:
                for work in as_completed(works):
                    hashed, faults = work.result()
                    cache.keep(hashed)
                    known |= {path: sha for path, _, _, sha, _ in hashed}
                    unreadable += faults
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    return {name: _told(each, known) for name, each in seen.items()}, unreadable


def _told(seen: FoundEntry, known: Mapping[str, str]) -> str:
    if seen.signature is None:
        return seen.said
    runs = "executable " if seen.signature.executable else ""
    return f"{seen.said}{runs}{known.get(seen.path, '?')}"


def _batches(paths: Sequence[str], wanted: Mapping[str, Signature | None]) -> list[list[str]]:
    found: list[list[str]] = [[]]
    size = 0
    for path in paths:
        signature = wanted[path]
        if len(found[-1]) >= BATCH or size >= BATCH_BYTES:
            found.append([])
            size = 0
        found[-1].append(path)
        size += signature.size if signature is not None else 0
    return found


def _hash_batch(
    paths: Sequence[str],
    wanted: Mapping[str, Signature],
    devices: Mapping[str, int],
    rights: Rights | None,
    check: Callable[[], None],
) -> tuple[list[_Hashed], list[str]]:
    hashed: list[_Hashed] = []
    faults: list[str] = []
    check()
    with acting_as(rights):
        for path in paths:
            began = time.time()
            try:
                sha = hash_file(path, wanted[path], check)
            except ChangedMeanwhileError:
                faults.append(f"{shown(path)} changed while it was read")
            except OSError as error:
                faults.append(f"{shown(path)} can't be read: {error.strerror}")
            else:
                hashed.append((path, wanted[path], devices[path], sha, began))
    return hashed, faults


def hash_file(path: str, signature: Signature, check: Callable[[], None] = lambda: None) -> str:
    """The sha256 of a file that has this signature, before and after it is read.

    Raises ChangedMeanwhileError, OSError.
    """
    fd = os.open(path, _FLAGS)
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or Signature.of(found) != signature:
            raise ChangedMeanwhileError(path)
        size = signature.size
        if size < PIECE:
            data = os.read(fd, size + 1)
            if len(data) != size:
                raise ChangedMeanwhileError(path)
            sha = hashlib.sha256(data, usedforsecurity=False).hexdigest()
        else:
            sha = _hash_pieces(fd, path, size, check)
        if Signature.of(os.fstat(fd)) != signature:
            raise ChangedMeanwhileError(path)
        return sha
    finally:
        os.close(fd)


def _hash_pieces(fd: int, path: str, size: int, check: Callable[[], None]) -> str:
    hashing = hashlib.sha256(usedforsecurity=False)
    buffer = bytearray(PIECE)
    view = memoryview(buffer)
    total = 0
    while count := os.readv(fd, [buffer]):
        hashing.update(view[:count])
        total += count
        if total % (64 * PIECE) == 0:
            check()
    if total != size:
        raise ChangedMeanwhileError(path)
    return hashing.hexdigest()
