"""Logs of attempts on AWS Batch, copied from the store to where those of local jobs are.

So that `runner logs` shows them like any other's. Owns where in the store an attempt's log is
found: whole, or in the parts that its container had stored when it went. That of a plain job is in
CloudWatch. Every function blocks.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from contextlib import suppress

from runner.aws.log_events import LogEvents
from runner.batch.log_address import LogAddress
from runner.errors import StateError
from runner.results.download.log_parts import find_parts, join_parts
from runner.results.layout import STREAMS, Layout, Stream
from runner.results.manifest import Manifest, parse_manifest
from runner.results.store import ResultStore
from runner.store.paths import LogPaths

MOST = 64 << 20
"""Bytes of a log that is copied: a longer one is looked at in the store."""


def copy_logs(
    store: ResultStore,
    logs: LogPaths,
    job_id: str,
    run_id: str,
    attempt: int,
    newest: Callable[[], int],
) -> bool:
    """Have an attempt's logs here, as far as they are stored; whether both are there as a whole.

    ``newest``: the job's newest attempt, whose logs have another place. Raises StoreError, and
    OSError for what is local.
    """
    manifest = _manifest(store, job_id, run_id)
    whole = [_copy(store, logs, job_id, attempt, newest, stream, manifest) for stream in STREAMS]
    return all(whole)


def copy_stream(
    events: LogEvents, at: LogAddress, logs: LogPaths, job_id: str, attempt: int, newest: int
) -> None:
    """Have the log of a plain job here as its stdout, as far as CloudWatch has it.

    Raises AwsError, OSError.
    """
    fd, name = tempfile.mkstemp(prefix=".copied-", dir=str(logs.jobs))
    left = MOST
    try:
        with os.fdopen(fd, "wb") as file:
            for page, _ in events.forwards(at.group, at.stream):
                for event in page:
                    line = f"{event.message}\n".encode("utf-8", "backslashreplace")
                    file.write(line)
                    left -= len(line)
                if left < 0:
                    break
            os.fchmod(file.fileno(), 0o644)
        path = logs.of_attempt(job_id, attempt, newest, "stdout")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.rename(name, path)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(name)


def _manifest(store: ResultStore, job_id: str, run_id: str) -> Manifest | None:
    data = store.get_bytes(Layout().manifest_key(job_id))
    if data is None:
        return None
    with suppress(StateError):
        manifest = parse_manifest(data)
        return manifest if manifest.run_id == run_id else None
    return None


def _copy(
    store: ResultStore,
    logs: LogPaths,
    job_id: str,
    attempt: int,
    newest: Callable[[], int],
    stream: Stream,
    manifest: Manifest | None,
) -> bool:
    layout, folder = Layout(), str(logs.jobs)
    entry = next(
        (
            file
            for file in (manifest.files if manifest is not None else ())
            if file.attempt == attempt and layout.stream_of(file.name) == stream
        ),
        None,
    )
    fd, name = tempfile.mkstemp(prefix=".copied-", dir=folder)
    try:
        if entry is not None:
            if entry.size > MOST or not store.get_file(entry.key, fd, entry.size):
                return entry.size > MOST
        else:
            parts = find_parts(store, layout, job_id)
            found = [log for log in parts if (log.attempt, log.stream) == (attempt, stream)]
            if not found or found[0].size > MOST:
                return False
            join_parts(store, found[0], fd, folder)
        os.fchmod(fd, 0o644)
        path = logs.of_attempt(job_id, attempt, newest(), stream)
        os.makedirs(os.path.dirname(path), exist_ok=True)  # a host that has seen no earlier attempt
        os.rename(name, path)
        return entry is not None
    finally:
        os.close(fd)
        with suppress(FileNotFoundError):
            os.unlink(name)
