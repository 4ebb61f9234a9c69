"""Who a queue is: its id and its result store, together. Neither alone says it.

Two people of one account may use the same queue_id, each with a bucket or a prefix of their own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from runner.errors import UsageError
from runner.results.stores import parse_s3
from runner.targets.ec2 import names

_QUEUE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def is_queue_id(word: str) -> bool:
    """Whether a queue can have this id: no path, and none of EC2's wildcards."""
    return _QUEUE_ID.fullmatch(word) is not None


def store_of(tag: str | None) -> str:
    """The store that a tag names; "" for none, and for what is no store's address."""
    try:
        parse_s3(tag or "")
    except UsageError:
        return ""
    return tag or ""


@dataclass(frozen=True, slots=True)
class QueueRef:
    """``store``: ``s3://bucket/prefix``; "" for a queue that stores nothing."""

    queue_id: str
    store: str

    @property
    def bucket(self) -> str:
        """Raises UsageError for a queue that stores nothing."""
        return parse_s3(self.store)[0]

    @property
    def prefix(self) -> str:
        """Of its keys. Raises UsageError for a queue that stores nothing."""
        return parse_s3(self.store)[1]

    @property
    def index_key(self) -> str:
        """Its object in its bucket's index. Raises UsageError for a queue that stores nothing."""
        return names.index_key(self.queue_id, self.prefix)

    def key(self, name: str) -> str:
        """Of an object of the queue's own: its state, its lease."""
        return f"{self.prefix}/{name}" if self.prefix else name

    def __str__(self) -> str:
        return f"'{self.queue_id}' ({self.store or 'which stores nothing'})"
