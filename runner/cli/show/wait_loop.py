"""Querying a queue until it has ended, across restarts of the process that works on it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from runner.targets.port import QueueConnection

ENDED = ("completed", "failed", "cancelled")

AGAIN = 0.25
"""Seconds between two tries to reach a process that works on the queue."""


def until_ended(
    there: QueueConnection, verb: str, look: Callable[[], dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """Yield answers of ``look`` until the queue has ended, or no process works on it any more."""
    missing: float | None = None
    seen = False
    while True:
        answer = look()
        queue = answer["queue"]
        yield answer
        if queue["status"] in ENDED and not queue.get("worker"):
            return
        if queue.get("worker") or queue.get("queued"):
            seen, missing = True, None
            continue
        if missing is None:
            missing = time.monotonic()
            if seen:
                seconds = there.traits.returns_within
                said = f"no process works on {queue['queue_id']} any more; waiting {seconds:.0f}s"
                print(f"runner {verb}: {said}", file=sys.stderr, flush=True)
        if not seen or time.monotonic() - missing > there.traits.returns_within:
            print(f"runner {verb}: no process works on {queue['queue_id']}", file=sys.stderr)
            return
        time.sleep(AGAIN)  # reason: for another process to start, which tells nobody
        there.reconnect()
