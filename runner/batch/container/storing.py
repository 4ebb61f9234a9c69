"""What is stored of an attempt whose COMMAND has ended: its end, logs, results and checkpoint.

The same uploads as on one machine, so keys, manifests and bytes are the same. Owns their order:
the end first, then what may be lost with the host, then the record that says what is stored.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from runner.batch.container.staged import Staged, read_staged
from runner.batch.container.task import Task, patiently
from runner.batch.container.volume import Volume
from runner.batch.records import BatchEnd, BatchStored, EndKind
from runner.errors import RecordError
from runner.results.checkpoint import JobCheckpoint, Saved, save_checkpoint
from runner.results.download.restore import readable_manifest
from runner.results.layout import STREAMS, Layout
from runner.results.manifest import FileEntry
from runner.results.path_map import SAME, PathMap
from runner.results.store import StoreError
from runner.results.upload.job_upload import JobUpload, UploadOutcome, upload_job

Say = Callable[[str], None]


def store_attempt(
    task: Task, volume: Volume, end: BatchEnd, say: Say, *, in_image: bool = False
) -> BatchEnd:
    """Store all of it, however often it has to be tried; the end that stands.

    ``end``: as it is seen here; another's may have been first.
    """
    stands = patiently(lambda: task.put_end(end), say)
    completed = (end.kind, end.code, stands.by) == (EndKind.EXIT, 0, end.by)
    paths = SAME if in_image else volume.collected()
    epoch = patiently(task.epoch, say)
    saved = None
    if not completed and end.kind is not EndKind.NOT_RUNNABLE and task.checkpoints:
        saved = _save(task, volume, epoch, paths, say)
    outcome = _upload(task, volume, end, epoch, paths, say, completed=completed)
    staged = _staged(volume)
    stored = BatchStored(
        task.entry.token,
        end,
        outcome.ok,
        outcome.told,
        bool(outcome.missing),
        outcome.stale,
        saved.files if saved else None,
        saved.bytes if saved else 0,
        saved.problem if saved else None,
        staged.checkpoint_lost,
        staged.checkpoint_files,
        staged.restored,
        staged.input_seconds,
        only_volume=not (in_image or volume.over),
    )
    patiently(lambda: task.put_stored(stored), say)
    return stands


def _staged(volume: Volume) -> Staged:
    try:
        return read_staged(volume)
    except (OSError, RecordError):
        return Staged()


def _save(task: Task, volume: Volume, epoch: int, paths: PathMap, say: Say) -> Saved:
    spec = JobCheckpoint(
        task.name,
        task.submission.run_id,
        task.entry.attempt,
        task.checkpoints,
        task.working_directory(volume.work),
        epoch=epoch,
        own=volume.own,
        record=volume.agent / "checkpoint.jsonl",
        paths=paths,
    )

    def save() -> Saved:
        saved = save_checkpoint(task.store, Layout(), spec)
        if saved.problem is not None and not saved.final:
            raise StoreError(saved.problem)
        return saved

    return patiently(save, say)


def _upload(
    task: Task,
    volume: Volume,
    end: BatchEnd,
    epoch: int,
    paths: PathMap,
    say: Say,
    *,
    completed: bool,
) -> UploadOutcome:
    submission = task.submission
    _close_logs(volume)
    spec = JobUpload(
        job_id=task.name,
        run_id=submission.run_id,
        epoch=epoch,
        attempt=task.entry.attempt,
        completed=completed,
        patterns=task.kept,
        working_directory=task.working_directory(volume.work),
        stdout=volume.main / "stdout",
        stderr=volume.main / "stderr",
        earlier_attempts=patiently(lambda: _earlier_logs(task, volume.agent), say),
        durable=bool(task.kept),
        record=volume.agent / "upload.jsonl",
        longest_name=Layout().longest_name(task.name, task.store.key_bytes),
        optional=task.optional,
        checked=frozenset(task.fresh_paths("check")),
        own=volume.own,
        ended_at=end.ended_at,
        first_start=task.entry.first_started_at or end.started_at,
        results=len(task.results),
        paths=paths,
    )

    def upload() -> UploadOutcome:
        outcome = upload_job(task.store, Layout(), spec)
        if not outcome.ok and not outcome.final:
            raise StoreError(outcome.told or "the upload failed")
        return outcome

    return patiently(upload, say)


def _close_logs(volume: Volume) -> None:
    """The logs have the permissions that they have on one machine; nobody writes to them now."""
    for name in STREAMS:
        with suppress(OSError):
            fd = os.open(volume.main / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                os.fchmod(fd, 0o644)
            finally:
                os.close(fd)


def _earlier_logs(task: Task, folder: Path) -> tuple[tuple[int, Path, Path], ...]:
    """The logs of earlier attempts that are stored as whole, by number.

    The last one's, which are the newest now, are fetched: they get other names. Raises StoreError.
    """
    layout, attempt = Layout(), task.entry.attempt
    manifest = readable_manifest(task.store, layout.manifest_key(task.name))
    if manifest is None or manifest.run_id != task.submission.run_id:
        return ()
    if manifest.attempt >= attempt:
        return ()  # an earlier try of ours
    found: dict[int, list[Path]] = {}
    for entry in manifest.files:
        stream = layout.stream_of(entry.name)
        if stream is None:
            continue
        place = folder / f"{entry.attempt}-{stream}.log"
        if entry.attempt == manifest.attempt:
            _fetch(task, entry, place)
        found.setdefault(entry.attempt, []).append(place)
    numbers = range(1, attempt)
    return tuple((n, *_both(folder, n)) for n in numbers if n in found)


def _both(folder: Path, attempt: int) -> tuple[Path, Path]:
    return folder / f"{attempt}-stdout.log", folder / f"{attempt}-stderr.log"


def _fetch(task: Task, entry: FileEntry, place: Path) -> None:
    fd = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        task.store.get_file(entry.key, fd, entry.size)
        os.fchmod(fd, entry.mode & 0o777)
    finally:
        os.close(fd)
    os.utime(place, ns=(entry.mtime_ns, entry.mtime_ns))
