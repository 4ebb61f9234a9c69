"""Looking again and again until a queue has ended, across restarts of whoever works on it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from runner.cli.connect import Connection, Local

ENDED = ("completed", "failed", "cancelled")

COMES_BACK = 30.0
"""Seconds that a service which was there has to come back: a restart, an upgrade."""

REPLACED = 180.0
"""Seconds that a machine on EC2 which was there has to come back, or `resume` to replace it: the
old one is seen to end before the next is asked for."""

AGAIN = 0.25
"""Seconds between two tries to reach somebody."""


def comes_back(there: Connection) -> float:
    """Seconds for which whoever worked on a queue there is waited for."""
    return COMES_BACK if isinstance(there, Local) else REPLACED


def until_ended(
    there: Connection, verb: str, look: Callable[[], dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """Yield answers of ``look`` until the queue has ended or nobody is there to end it."""
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
                seconds = comes_back(there)
                said = f"nobody works on {queue['queue_id']} any more; waiting {seconds:.0f}s"
                print(f"runner {verb}: {said}", file=sys.stderr, flush=True)
        if not seen or time.monotonic() - missing > comes_back(there):
            print(f"runner {verb}: nobody works on {queue['queue_id']}", file=sys.stderr)
            return
        time.sleep(AGAIN)  # reason: for another process to start, which tells nobody
        there.renew()
