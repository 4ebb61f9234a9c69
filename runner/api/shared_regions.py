"""The regions of AWS Batch that Executors of this process use: each once, for all of them.

A rate that each had for itself would be exceeded by two; and what one has found out of a region
that doesn't answer, the others need not.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from runner.engine.batch.region import BatchRegion
from runner.service.batch_place import region_of

_Key = tuple[str | None, float | None, str | None]

_lock = threading.Lock()
_regions: dict[_Key, tuple[BatchRegion, int]] = {}


class SharedRegion:
    """One use of a region; ``close`` ends it. ``every``, ``events``: see BatchRegion; regions with
    others are others."""

    def __init__(
        self, name: str, say: Callable[[str], None], every: float | None, events: str | None
    ) -> None:
        self._key: _Key = (name, every, events)
        with _lock:
            region, uses = _regions.get(self._key) or (region_of(name, say, every, events), 0)
            _regions[self._key] = (region, uses + 1)
        self.region = region

    def close(self) -> None:
        """Use it no more. Blocks, a moment."""
        with _lock:
            region, uses = _regions.pop(self._key, (self.region, 1))
            if uses > 1:
                _regions[self._key] = (region, uses - 1)
        if uses == 1:
            region.close()


def _forget() -> None:
    """A fork has none of the threads that look at jobs."""
    global _lock
    _lock = threading.Lock()
    _regions.clear()


os.register_at_fork(after_in_child=_forget)
