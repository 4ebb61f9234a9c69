"""One queue as its database has it: who it is, its state, and why it can't be read.

Owns what the key words of ``meta`` say of a queue. It opens the database to read only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from runner.core.states import QUEUE_ENDED, QueueState
from runner.errors import RunnerError, StateError
from runner.store.change_stamp import Stamp
from runner.store.database import UNSTORED, Database


@dataclass(frozen=True, slots=True)
class QueueEntry:
    """One queue of a state folder. ``name`` is its folder's; one set aside has another than its id.

    ``error``: why it can't be read; ``passing``: only for now, and nothing says it is damaged.
    ``stamp``: its files' from before they were read.
    """

    name: str
    queue_id: str = ""
    meta: dict[str, str] = field(default_factory=dict)
    queue: QueueState | None = None
    error: str | None = None
    passing: bool = False
    stamp: Stamp | None = None

    @property
    def order(self) -> int:
        """Of coming in; 0 for a queue whose number can't be read."""
        order = self.meta.get("order", "")
        return int(order) if order.isdecimal() and len(order) < 16 else 0

    @property
    def aside(self) -> bool:
        """Whether ``--fresh`` has set it aside: nothing resumes it."""
        return self.name != self.queue_id

    @property
    def ended(self) -> bool:
        """Whether its last run has ended."""
        return self.queue is not None and self.queue.status in QUEUE_ENDED

    @property
    def unstored(self) -> bool:
        """Whether it has ended, and results or its last state are missing from its store."""
        if self.queue is None or not self.ended:
            return False
        return self.queue.incomplete or bool(self.meta.get(UNSTORED))


def read_entry(name: str, path: Path) -> QueueEntry:
    """A queue as its database has it, whatever that holds: one queue's trouble is its own."""
    try:
        opened = Database(path, read_only=True)
        try:
            meta = opened.meta()
            entry = QueueEntry(name, meta.get("queue_id", name), meta, opened.queue())
        finally:
            opened.close()
        if entry.order < 0:
            raise ValueError("its order is below 0")
    except RunnerError as error:
        return QueueEntry(name, error=str(error), passing=not isinstance(error, StateError))
    except Exception as error:
        return QueueEntry(name, error=f"{path} can't be read: {type(error).__name__}: {error}")
    return entry
