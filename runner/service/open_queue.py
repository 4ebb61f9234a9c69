"""An open queue: one that begins without jobs and takes them as long as it is open.

Owns what is noted of one, and how one is made that its own process works on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from runner.errors import ConflictError, StateError
from runner.model.document import QueueSpec
from runner.model.durations import LONGEST
from runner.process.identity import start_time
from runner.service.queue_repository import QueueRepository
from runner.service.session import LET_GO, Session
from runner.store.database import Database

OWNER = "executor"
"""The ``owner`` in the records of a queue that an Executor has made and works on itself."""

OPEN_KEY = "opened_by"
"""The key of ``meta`` that a daemon's open queue has; its value names the kind of client."""

MOST_KEY = "most"
"""How many of its jobs may run at once, as was asked last."""

IDLE_KEY = "closed_when_idle"
"""Set when it was closed for want of work, and not because it was asked to be."""


@dataclass(frozen=True, slots=True)
class Opener:
    """An Executor: ``token`` is its own, ``pid`` its process's as the kernel says, ``started`` when
    that began (clock ticks); None where it can't be seen from here."""

    token: str
    pid: int
    started: int | None

    @classmethod
    def of(cls, token: str, pid: int) -> Opener:
        """The one that asks now."""
        return cls(token, pid, start_time(pid) if pid > 0 else None)

    @property
    def alive(self) -> bool:
        """Whether its process is there."""
        return self.started is not None and start_time(self.pid) == self.started


def is_open_queue(meta: Mapping[str, str]) -> bool:
    """Whether a queue was made to be added to: it is worked on beside those that were submitted."""
    return OPEN_KEY in meta


def was_opened(meta: Mapping[str, str]) -> bool:
    """Whether it is an Executor's queue, the daemon's or one that its own process works on."""
    return is_open_queue(meta) or meta.get("owner") == OWNER


def most_of(meta: Mapping[str, str]) -> int | None:
    """How many of an open queue's jobs run at once; None: as many as there are processors."""
    told = meta.get(MOST_KEY, "")
    return int(told) if told.isdecimal() and 0 < len(told) < 7 else None


def database_of(session: Session) -> Database:
    """The open database of a session, on its loop. Raises StateError once that is closed."""
    if session.over.done():
        raise StateError(LET_GO)
    return session.database


def open_queue(repository: QueueRepository, queue_id: str, parallel: int) -> bool:
    """Have a queue of this id that jobs can be added to; whether it is new. The caller holds its
    lock.

    Raises ConflictError for a queue that was made from a document, and what reading one raises.
    """
    if repository.exists(queue_id):
        meta = repository.find(queue_id).meta
        if meta.get("owner") != OWNER:
            made = "is the daemon's" if is_open_queue(meta) else "was made from a document"
            raise ConflictError(
                f"queue '{queue_id}' in {repository.paths.root} {made}: give the Executor another "
                "name"
            )
        return False
    document = QueueSpec(
        queue_id=queue_id,
        queue_name=queue_id,
        jobs=(),
        global_timeout=LONGEST,
        on_failure="continue",
        max_parallel_jobs=parallel,
    )
    repository.create(document, OWNER, anonymous=False)
    return True
