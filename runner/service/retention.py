"""Retention of finished queues: which of them are old enough, and how one is removed.

Owns the order of a removal: a cut at any point leaves a queue with its state, or a folder that the
next removal finds.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from runner.errors import LockedError
from runner.service.queue_ages import check_clock, read_ages, read_clocks, write_ages
from runner.service.queue_entry import QueueEntry
from runner.service.queue_repository import QueueRepository
from runner.store.paths import remove_tree

_PRUNED = ".pruned-"
"""The name of a queue's folder begins so while it is being removed."""


def prune(
    repository: QueueRepository,
    older_than: float,
    *,
    only: str | None = None,
    dry_run: bool = False,
    asked: bool = False,
) -> list[str]:
    """Remove finished queues older than so many seconds, and their logs; returns the names.

    The service goes by the time that was seen to pass; with ``asked``, a person's request, the
    wall clock counts. Raises RunnerError if that can't be right.
    """
    entries = [e for e in repository.entries() if only in (None, e.name)]
    kept: Mapping[str, float] = {}
    if not asked:
        kept = _look_at_ages(repository, entries)
    elif any(map(_is_done, entries)):
        check_clock(repository.paths.ages, _newest_file(repository), remember=not dry_run)

    def is_old(entry: QueueEntry) -> bool:
        by_wall = time.time() - _ended_at(entry)
        return (by_wall if asked else kept.get(_age_key(entry), -1.0)) >= older_than

    removed = []
    if not dry_run:
        _finish_removing(repository)
    for entry in entries:
        if not _is_done(entry) or not is_old(entry):
            continue
        if not dry_run and not _remove(repository, entry, is_old):
            continue
        removed.append(entry.name)
    return removed


def _look_at_ages(repository: QueueRepository, entries: list[QueueEntry]) -> Mapping[str, float]:
    """How old each finished queue is by now; remembered for the next look."""
    ended = {_age_key(entry): _ended_at(entry) for entry in entries if _is_done(entry)}
    ages = read_ages(repository.paths.ages).at(read_clocks(), ended)
    write_ages(repository.paths.ages, ages)
    return ages.kept or {}


def _newest_file(repository: QueueRepository) -> float:
    """Wall seconds of the last change to anything here that is changed at every step."""
    paths = [repository.paths.root, repository.paths.queues]
    for name in repository.names():
        database = repository.queue_paths(name).database
        paths += [database, database.with_name(f"{database.name}-wal")]
    newest = 0.0
    for path in paths:
        with suppress(OSError):
            newest = max(newest, os.stat(path).st_mtime)
    return newest


def _remove(
    repository: QueueRepository, entry: QueueEntry, is_old: Callable[[QueueEntry], bool]
) -> bool:
    try:
        lock = repository.lock(entry.queue_id, "runner prune")
    except LockedError:
        return False
    try:
        now = repository.entry(entry.name)
        if not _is_done(now) or not is_old(now):
            # It was taken up again before we had the lock.
            return False
        # The logs first: without its state nobody would know any more whose they are.
        remove_tree(repository.log_paths(entry.name).root)
        doomed = repository.paths.queues / f"{_PRUNED}{entry.name}-{os.getpid()}"
        os.rename(repository.queue_paths(entry.name).root, doomed)
        repository.log_folders.forget(entry.name)
        remove_tree(doomed)
    finally:
        lock.release()
    return True


def _finish_removing(repository: QueueRepository) -> None:
    """Remove what a killed prune has left."""
    if repository.paths.queues.is_dir():
        for doomed in repository.paths.queues.glob(f"{_PRUNED}*"):
            remove_tree(doomed)


def _is_done(entry: QueueEntry) -> bool:
    """Whether a queue has ended, or was set aside."""
    return entry.queue is not None and (entry.ended or entry.aside)


def _ended_at(entry: QueueEntry) -> float:
    """Wall seconds of its end, or of the last that was heard of it."""
    queue = entry.queue
    if queue is None:
        return 0.0
    return queue.completed_at or queue.updated_at or queue.started_at or 0.0


def _age_key(entry: QueueEntry) -> str:
    """This end of this run: one that goes on and ends again is young again."""
    run_id = entry.queue.run_id if entry.queue is not None else ""
    return f"{entry.name} {run_id} {_ended_at(entry)!r}"
