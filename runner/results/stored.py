"""What a store tells of a queue: its state, and each job's manifest. Nothing of it is trusted.

Owns the reading and checking of both. Must not know where anything goes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from runner.core.states import ENDED, QUEUE_ENDED, JobStatus, QueueStatus
from runner.errors import NotFoundError, StateError
from runner.model.faults import InvalidError
from runner.model.fields import check_job_id
from runner.results.escape import shown
from runner.results.layout import Layout
from runner.results.manifest import FileEntry, Manifest, parse_manifest
from runner.results.store import ResultStore


@dataclass(frozen=True, slots=True)
class StoredJob:
    """A job as the stored state has it. `uploaded`: None where nothing was to be uploaded yet."""

    job_id: str
    status: JobStatus
    attempt: int
    uploaded: bool | None
    reason: str

    @property
    def should_be_stored(self) -> bool:
        """Whether it ran and has ended: an upload was due."""
        return self.attempt > 0 and self.status in ENDED


@dataclass(frozen=True, slots=True)
class StoredQueue:
    """A run as the store has it; `raw` is the state itself."""

    queue_id: str
    run_id: str
    status: QueueStatus
    jobs: dict[str, StoredJob]
    raw: bytes

    @property
    def unfinished(self) -> bool:
        """Whether somebody may still work on it, as far as the store knows."""
        return self.status not in QUEUE_ENDED | {QueueStatus.INTERRUPTED}


def read_queue(store: ResultStore, layout: Layout) -> StoredQueue:
    """The queue whose results are in the store.

    Raises NotFoundError if there is none, StateError if its state isn't one, StoreError.
    """
    raw = store.get_bytes(layout.state_key)
    where = store.describe()
    if raw is None:
        raise NotFoundError(
            f"there is no {layout.state_key} in {shown(where)}: no queue has stored results there"
        )
    try:
        state = json.loads(raw)
        jobs = {job.job_id: job for job in map(_job, state["jobs"])}
        queue_id, run_id = state["queue_id"], state["run_id"]
        if not (isinstance(queue_id, str) and isinstance(run_id, str) and run_id):
            raise ValueError("its queue_id or run_id is no text")
        return StoredQueue(queue_id, run_id, QueueStatus(state["status"]), jobs, raw)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, InvalidError) as error:
        why = f"{type(error).__name__}: {error}" if isinstance(error, KeyError) else str(error)
        raise StateError(f"{layout.state_key} in {shown(where)} is no queue's state: {why}")


def _job(job: dict[str, Any]) -> StoredJob:
    attempt = job["attempt"]
    if type(attempt) is not int or attempt < 0:
        raise ValueError("an attempt is no number")
    return StoredJob(
        job_id=check_job_id(job["job_id"]),
        status=JobStatus(job["status"]),
        attempt=attempt,
        uploaded=job.get("results_uploaded"),
        reason=str(job.get("reason", "")),
    )


def read_manifest(
    store: ResultStore, layout: Layout, queue: StoredQueue, job_id: str
) -> Manifest | None:
    """What this run stored of a job; None if it has stored nothing: another run's doesn't count.

    Raises StateError for what is no manifest of this job or would lead out of its
    folder, StoreError.
    """
    data = store.get_bytes(layout.manifest_key(job_id))
    if data is None:
        return None
    manifest = parse_manifest(data)
    if manifest.run_id != queue.run_id:
        return None
    if manifest.job_id != job_id or type(manifest.attempt) is not int:
        raise StateError("it is another job's manifest")
    for file in manifest.files:
        if not _is_sound(file, layout, job_id):
            raise StateError(f"the manifest names {file.key!r}, which no runner writes")
    return manifest


def _is_sound(file: FileEntry, layout: Layout, job_id: str) -> bool:
    """Whether its types are right, and key and name are of a file below the job's prefix."""
    texts = (file.key, file.name, file.sha256)
    numbers = (file.size, file.attempt)
    if not all(isinstance(text, str) for text in texts):
        return False
    if not all(type(number) is int and number >= 0 for number in numbers):
        return False
    try:
        layout.local_name(file.name)
    except ValueError:
        return False
    return file.key == layout.file_key(job_id, file.name)
