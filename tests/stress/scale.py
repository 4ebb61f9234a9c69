"""How much of the long tests is run, and which of it: ``SCALE`` (1 = all) and ``SEED``."""

from __future__ import annotations

import os
import random

SCALE = float(os.environ.get("SCALE", "1"))
SEED = int(os.environ.get("SEED") or random.SystemRandom().randrange(1 << 32))

# Worker processes, which import this anew, draw from the same seed.
os.environ["SEED"] = str(SEED)


def scaled(rounds: int) -> int:
    """Of so many rounds, how many this run does: at least one."""
    return max(1, round(rounds * SCALE))
