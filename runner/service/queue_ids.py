"""The id that a document runs under: its own, that of its unfinished queue, or a new one.

A new one is the next free second, and nobody else's: whoever makes the file of its lock has it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress

from runner.errors import disk_error
from runner.model.document import QueueSpec
from runner.service.queue_repository import QueueRepository


def _as_given(document: QueueSpec) -> QueueSpec:
    return document


def name_for(
    repository: QueueRepository,
    document: QueueSpec,
    whole: Callable[[QueueSpec], QueueSpec] = _as_given,
) -> str:
    """The id this document runs under: its own, that of its unfinished queue, or a new one.
    ``whole`` completes a document that has one, as those that are kept were."""
    if document.queue_id is not None:
        return document.queue_id
    for entry in reversed(repository.entries()):
        if entry.meta.get("anonymous") and not entry.ended and not entry.aside:
            stored = repository.stored_document(entry.name)
            if stored == whole(document.with_id(entry.queue_id)):
                return entry.queue_id
    moment = time.time()
    while True:
        name = time.strftime("queue-%Y%m%d-%H%M%S", time.gmtime(moment))
        if not repository.queue_paths(name).root.exists() and _reserve(repository, name):
            return name
        moment += 1


def _reserve(repository: QueueRepository, name: str) -> bool:
    """Whether this id is the caller's: nobody else has made the file of its lock."""
    path = repository.paths.queue_lock(name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        return False
    except OSError as error:
        raise disk_error(path, error) from None
    return True


def give_back(repository: QueueRepository, name: str) -> None:
    """An id from ``name_for`` was not needed: nothing is to be left of it."""
    if not repository.exists(name):
        with suppress(OSError):
            repository.paths.queue_lock(name).unlink()
