"""How long to wait before what AWS didn't do is tried again."""

from __future__ import annotations

import random

FIRST_RETRY = 1.0
LAST_RETRY = 60.0
"""Seconds between two tries: first, and at most."""


def backoff(tries: int) -> float:
    """Seconds until the next try after so many: doubled each time, half of it by chance."""
    delay = min(LAST_RETRY, FIRST_RETRY * 2.0 ** min(tries - 1, 10))
    return delay * (0.5 + 0.5 * random.random())
