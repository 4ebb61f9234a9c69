"""What a store tells of a queue: its state, and each job's manifest. Nothing of it is trusted.

Owns the reading and checking of both. Must not know where anything goes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from runner.core.state_file import StateFile, StateFileJob, parse_state
from runner.core.states import QUEUE_ENDED, QueueStatus
from runner.errors import NotFoundError, StateError
from runner.model.elements import element_name
from runner.results.escape import shown
from runner.results.layout import Layout
from runner.results.manifest import FileEntry, Manifest, parse_manifest
from runner.results.store import ResultStore

StoredJob = StateFileJob
"""A job as the stored state has it."""


@dataclass(frozen=True, slots=True)
class StoredQueue:
    """A run as the store has it; `raw` is the state itself.

    `jobs`: by name, for each array its elements, which have logs and results as a job has;
    `arrays`: the names of these by the array's.
    """

    state: StateFile
    jobs: dict[str, StoredJob]
    arrays: dict[str, list[str]]
    raw: bytes

    def named(self, names: Iterable[str]) -> list[StoredJob]:
        """The jobs of these names; an array's is that of all its elements. Raises KeyError."""
        found = (each for name in names for each in self.arrays.get(name, (name,)))
        return [self.jobs[name] for name in dict.fromkeys(found)]

    @property
    def queue_id(self) -> str:
        return self.state.queue_id

    @property
    def run_id(self) -> str:
        return self.state.run_id

    @property
    def status(self) -> QueueStatus:
        return self.state.status

    @property
    def unfinished(self) -> bool:
        """Whether somebody may still work on it, as far as the store knows."""
        return self.status not in QUEUE_ENDED | {QueueStatus.INTERRUPTED}


def read_queue(store: ResultStore, layout: Layout) -> StoredQueue:
    """The queue whose results are in the store.

    Raises NotFoundError if there is none, StateError if its state isn't one, StoreError.
    """
    raw = store.get_bytes(layout.state_key)
    where = shown(store.describe())
    if raw is None:
        raise NotFoundError(
            f"there is no {layout.state_key} in {where}: no queue has stored results there"
        )
    state = parse_state(raw, f"{layout.state_key} in {where} is no queue's state")
    arrays = {
        job.job_id: [element_name(job.job_id, index) for index in range(job.array.size)]
        for job in state.jobs
        if job.array is not None
    }
    return StoredQueue(state, {job.job_id: job for job in state.units()}, arrays, raw)


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
    manifest = parse_manifest(data, layout.manifest_key(job_id))
    if manifest.run_id != queue.run_id:
        return None
    if manifest.job_id != job_id:
        raise StateError("it is another job's manifest")
    for file in manifest.files:
        if not _is_sound(file, layout, job_id):
            raise StateError(f"the manifest names {file.key!r}, which no runner writes")
    return manifest


def _is_sound(file: FileEntry, layout: Layout, job_id: str) -> bool:
    """Whether key and name are of a file below the job's prefix."""
    try:
        layout.local_name(file.name)
    except ValueError:
        return False
    return file.key == layout.file_key(job_id, file.name)
