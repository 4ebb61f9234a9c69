"""A log on its way to the store while it is still written: part by part, each stored once.

Owns where a part begins and how large it may be. Must not know when it is looked at.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from runner.results.layout import Layout, Stream
from runner.results.store import ResultStore

PART = 8 << 20
"""Bytes of the largest part."""


@dataclass(slots=True)
class LogTail:
    """One stream of one attempt. ``done``: bytes that are in the store; None: not known yet."""

    store: ResultStore
    job_id: str
    attempt: int
    stream: Stream
    done: int | None = None

    def has_more(self, fd: int) -> bool:
        """Whether the log may hold more than is stored. Raises OSError."""
        return os.fstat(fd).st_size != (self.done or 0)

    def put_next(self, fd: int) -> bool:
        """Store the next part; whether there may be another. Raises StoreError, OSError."""
        if self.done is None:
            self.done = self._stored()
        size = os.fstat(fd).st_size
        if self.done >= size:
            return False
        data = os.pread(fd, min(PART, size - self.done), self.done)
        if not data:
            return False
        key = Layout().log_part_key(self.job_id, self.attempt, self.stream, self.done)
        self.store.put_bytes(key, data)
        self.done += len(data)
        return self.done < size

    def _stored(self) -> int:
        """How much was stored of it before."""
        layout = Layout()
        prefix = layout.log_parts_prefix(self.job_id, self.attempt, self.stream)
        ends = [layout.log_part_offset(e.key) + e.size for e in self.store.list(prefix)]
        return max(ends, default=0)
