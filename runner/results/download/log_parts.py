"""A log that is still in parts: found, and put together as far as it goes.

Owns what becomes of overlaps, gaps and parts that vanish. Must not know where the log goes.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import IO

from runner.results.concurrency import at_once
from runner.results.layout import Layout, Stream
from runner.results.manifest import Manifest
from runner.results.store import Entry, ResultStore

_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class LogParts:
    """The parts of one attempt's log: (offset, key), by offset. `size`: at most so many bytes."""

    attempt: int
    stream: Stream
    parts: tuple[tuple[int, str], ...]
    size: int


@dataclass(frozen=True, slots=True)
class Joined:
    """What came of it. `gap`: the bytes that are missing, from and to; nothing after it is there.

    `gone`: a part went away meanwhile, as parts do when the whole log has been stored.
    """

    size: int
    gap: tuple[int, int] | None = None
    gone: bool = False

    @property
    def problem(self) -> str | None:
        """The gap in words."""
        if self.gap is None:
            return None
        return f"ends at byte {self.gap[0]}: what is stored goes on at {self.gap[1]}"


def find_parts(store: ResultStore, layout: Layout, job_id: str) -> list[LogParts]:
    """All logs of a job that are in parts, by attempt and stream. Raises StoreError."""
    logs: dict[tuple[int, Stream], list[tuple[int, str]]] = {}
    sizes: dict[tuple[int, Stream], int] = {}
    for entry in store.list(layout.attempts_prefix(job_id)):
        if part := layout.log_part_of(job_id, entry.key):
            attempt, stream, offset = part
            logs.setdefault((attempt, stream), []).append((offset, entry.key))
            sizes[attempt, stream] = sizes.get((attempt, stream), 0) + entry.size
    return [LogParts(*log, tuple(sorted(logs[log])), sizes[log]) for log in sorted(logs)]


def whole_logs(
    layout: Layout, manifest: Manifest, there: Iterable[Entry]
) -> set[tuple[int, Stream]]:
    """The logs that are stored with all that has ever been stored of them in parts.

    A job may have cut its log, or removed it; and that of an attempt elsewhere is not here.
    """
    sizes = {
        (file.attempt, stream): file.size
        for file in manifest.files
        if (stream := layout.stream_of(file.name))
    }
    for entry in there:
        if part := layout.log_part_of(manifest.job_id, entry.key):
            attempt, stream, offset = part
            if sizes.get((attempt, stream), 0) < offset + entry.size:
                sizes.pop((attempt, stream), None)
    return set(sizes)


def join_parts(store: ResultStore, log: LogParts, target: int, scratch: str | None) -> Joined:
    """Write a log into the empty file `target`, up to its first gap.

    Where two parts have the same bytes the later one's count. Parts on their way are in unnamed
    files in the folder `scratch`. Raises StoreError, and OSError for what is local.
    """

    opened: set[IO[bytes]] = set()

    def get(part: tuple[int, str]) -> tuple[int, IO[bytes] | None]:
        offset, key = part
        file = tempfile.TemporaryFile(dir=scratch, buffering=0)  # noqa: SIM115
        opened.add(file)
        return offset, file if store.get_file(key, file.fileno()) else None

    end = 0
    pool = ThreadPoolExecutor(store.parallel, thread_name_prefix="parts")
    try:
        for offset, file in at_once(pool, get, log.parts, 2 * store.parallel):
            if file is None:
                return Joined(end, gone=True)
            if offset > end:
                return Joined(end, gap=(end, offset))
            end = max(end, _copy(file.fileno(), target, offset))
            opened.discard(file)
            file.close()
        return Joined(end)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        for file in opened:
            file.close()


def _copy(source: int, target: int, offset: int) -> int:
    """Copy all of a file to `offset`; returns where that ends."""
    at = 0
    while data := os.pread(source, _CHUNK, at):
        at += len(data)
        while data:
            count = os.pwrite(target, data, offset)
            data, offset = data[count:], offset + count
    return offset
