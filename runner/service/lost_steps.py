"""A database that has lost steps: found out when a queue is opened, and made good as far as can be.

Its log was lost or damaged, or a person has put a copy in its place. What `queue-state.json` knows
of the lost steps comes back; what still runs of them is adopted. The rest is ended by the engine.
"""

from __future__ import annotations

from dataclasses import replace

from runner.core.attempts import start_number
from runner.core.states import JobState, QueueState
from runner.engine.clock import now
from runner.errors import StateError
from runner.model.document import QueueSpec
from runner.process.identity import boot_id
from runner.process.shim_records import ShimRecord, ShimRecordFile
from runner.store.database import Database, Loaded
from runner.store.paths import QueuePaths


def make_good(
    paths: QueuePaths, database: Database, document: QueueSpec, loaded: Loaded
) -> Loaded | None:
    """What was loaded with the lost steps that are known, stored; None if none are lost or known.

    The caller holds the queue's lock. Raises DiskError, OSError.
    """
    queue = loaded.queue
    shim_records = _recorded(paths)
    newest = max((start_number(queue.run_id, slot.token) for _, slot in shim_records), default=0)
    if not database.missing_events(queue.run_id) and newest <= queue.starts:
        return None
    from runner.core.state_recovery import OnRecord, with_attempts

    boot = boot_id()
    attempts = [
        OnRecord(
            slot.token,
            number,
            slot.claim.mono,
            slot.command.pid if slot.command is not None else None,
            slot.work,
        )
        for number, slot in shim_records
        if slot.claim is not None and slot.claim.boot_id == boot
    ]
    found, jobs = _from_file(paths, document, queue) or (queue, loaded.jobs)
    found, jobs = with_attempts(document, found, jobs, attempts, now(), boot)
    found = replace(found, starts=max(found.starts, newest, queue.starts))
    if (found, jobs) == (replace(queue, starts=found.starts), loaded.jobs):
        return None
    database.replace_all(database.document(), found, sorted(jobs.items()))
    return replace(loaded, queue=found, jobs=jobs)


def _from_file(
    paths: QueuePaths, document: QueueSpec, queue: QueueState
) -> tuple[QueueState, dict[int, JobState]] | None:
    """What the file knows, if it is of this run and newer than the database."""
    from runner.core.state_file import parse_state
    from runner.core.state_recovery import from_file

    try:
        told = parse_state(paths.projection.read_bytes(), str(paths.projection))
        if told.run_id == queue.run_id and (told.updated_at or 0.0) > (queue.updated_at or 0.0):
            return from_file(document, told)
    except (FileNotFoundError, StateError):
        # Or the document was changed by one of the lost steps: what is there is all there is.
        pass
    return None


def _recorded(paths: QueuePaths) -> list[tuple[int, ShimRecord]]:
    if not paths.shim_records.is_file():
        return []
    shim_records = ShimRecordFile.open(str(paths.shim_records))
    try:
        return list(shim_records.all())
    finally:
        shim_records.close()
