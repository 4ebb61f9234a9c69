"""``queue-state.json`` of queues that no process works on, where the last word is missing.

A runner that is killed between its last commit and the file leaves one that says the queue still
runs, and nobody takes an ended queue up again. Owns no state: the database is right.
"""

from __future__ import annotations

from dataclasses import dataclass

from runner.core.states import PENDING, QueueState
from runner.errors import RecordError, RunnerError
from runner.files import unfinished
from runner.model.records import parse
from runner.service.queue_repository import QueueRepository
from runner.store.database import Database
from runner.store.paths import QueuePaths
from runner.store.projection import Projection, write_projection
from runner.timestamps import rfc3339


@dataclass(frozen=True, slots=True)
class _End:
    """What the file says of a queue's end."""

    run_id: str
    status: str
    completed_at: str | None = None


def write_stale(repository: QueueRepository) -> list[str]:
    """Bring the files of ended queues up to date; the names of those that were not.

    Costs the first line of a file for each queue. One that another process holds, or that can't be
    written, is left.
    """
    written = []
    for entry in repository.entries():
        if entry.queue is None or not entry.ended or entry.aside:
            continue
        paths = repository.queue_paths(entry.name)
        if _is_true(paths, entry.queue):
            continue
        try:
            lock = repository.lock(entry.queue_id, "runner daemon")
        except RunnerError:
            continue
        try:
            if _lost_steps(paths, entry.queue):
                # The file knows more: whoever opens the queue goes by it.
                continue
            write_state_file(paths)
            written.append(entry.name)
        except Exception:
            # Whatever this one holds, the others' files are written. It is seen again at the next
            # start; whoever looks is told what the database says.
            pass
        finally:
            lock.release()
    return written


def _lost_steps(paths: QueuePaths, queue: QueueState) -> bool:
    """Whether the database is older than it was: its log was lost, or a copy restored."""
    database = Database(paths.database, read_only=True)
    try:
        return database.missing_events(queue.run_id) > 0
    finally:
        database.close()


def _is_true(paths: QueuePaths, queue: QueueState) -> bool:
    """Whether the file tells of this end: the first line holds the queue's own fields."""
    if unfinished(paths.projection).exists():
        return False
    try:
        with open(paths.projection, "rb") as file:
            told = parse(_End, file.readline() + b"]}", str(paths.projection))
    except (OSError, RecordError):
        return False
    return told == _End(queue.run_id, queue.status.value, rfc3339(queue.completed_at))


def write_state_file(paths: QueuePaths) -> None:
    """Write a queue's file as its database has it; the caller holds its lock.

    Raises StateError if it can't be read, DiskError if it can't be for now, or not written.
    """
    database = Database(paths.database, read_only=True)
    try:
        with database.one_moment():
            outline = database.outline()
            loaded = database.load(len(outline.units))
    finally:
        database.close()
    names = outline.units
    jobs = [loaded.jobs.get(index, PENDING) for index in range(len(names))]
    projection = Projection(loaded.queue_id, outline.queue_name, names, outline.arrays)
    for pieces in projection.render(loaded.queue, jobs):
        if pieces is not None:
            write_projection(paths.projection, pieces)
