"""One log out of a store: whole, or as far as its parts go.

Must not know where it is shown.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from runner.core.states import JobStatus
from runner.errors import NotFoundError
from runner.results.download.log_parts import find_parts, join_parts
from runner.results.escape import shown
from runner.results.file_copy import hash_file
from runner.results.layout import Layout, Stream
from runner.results.manifest import FileEntry, Manifest
from runner.results.store import ResultStore
from runner.results.stored_queue import StoredJob, StoredQueue, read_manifest

_TRIES = 3
"""A log that is in parts becomes whole, and the parts go, while we look."""


@dataclass(frozen=True, slots=True)
class StoredLog:
    """`size` bytes of a log. `running`: there may be more. `problem`: some are missing or wrong.

    `written`: when it was last written to, in seconds since the epoch; None is not known.
    """

    attempt: int
    size: int
    running: bool
    problem: str | None = None
    written: float | None = None


def get_log(
    store: ResultStore,
    queue: StoredQueue,
    job: StoredJob,
    attempt: int | None,
    stream: Stream,
    target: int,
    scratch: str,
) -> StoredLog:
    """Write a log, by default the newest attempt's, into the empty file `target`.

    Raises NotFoundError, StateError for a manifest that can't be read, StoreError.
    """
    layout = Layout()
    for left in reversed(range(_TRIES)):
        manifest = read_manifest(store, layout, queue, job.job_id)
        live = find_parts(store, layout, job.job_id)
        newest = max(job.attempt, manifest.attempt if manifest else 0, *(p.attempt for p in live))
        asked = attempt or newest
        _check(job, asked, newest)
        parts = [log for log in live if (log.attempt, log.stream) == (asked, stream)]
        running = asked == newest and job.status is JobStatus.RUNNING and queue.unfinished
        if file := _entry(layout, manifest, asked, stream):
            running = False
            if store.get_file(file.key, target, file.size):
                size = os.fstat(target).st_size
                same = size == file.size and hash_file(target, size) == file.sha256
                problem = None if same else f"{shown(file.key)} is not as the manifest says"
                return StoredLog(asked, size, running, problem, file.mtime_ns / 1e9)
        elif parts:
            joined = join_parts(store, parts[0], target, scratch)
            if not joined.gone or not left:
                problem = joined.problem and f"the log {joined.problem}"
                return StoredLog(asked, joined.size, running, problem)
        elif running:
            return StoredLog(asked, 0, running)
        os.ftruncate(target, 0)
        os.lseek(target, 0, os.SEEK_SET)
    where = shown(store.describe())
    raise NotFoundError(f"the {stream} of attempt {asked} of job '{job.job_id}' is not in {where}")


def _check(job: StoredJob, asked: int, newest: int) -> None:
    if not newest and job.status is not JobStatus.COMPLETED:
        why = f" ({job.reason})" if job.reason else ""
        raise NotFoundError(f"job '{job.job_id}' has not started: it is {job.status.value}{why}")
    if asked > newest:
        raise NotFoundError(
            f"job '{job.job_id}' has no attempt {asked}: the newest stored is {newest}"
        )


def _entry(
    layout: Layout, manifest: Manifest | None, attempt: int, stream: Stream
) -> FileEntry | None:
    files = manifest.files if manifest else ()
    for file in files:
        if file.attempt == attempt and layout.stream_of(file.name) == stream:
            return file
    return None
