"""When things happen in the kill matrix: random instants, polling, patience."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

PATIENCE = 30.0
"""Seconds after which something that has to happen counts as not happening."""


def uptime() -> float:
    """Seconds since boot, on the clock of the jobs' evidence."""
    return float(Path("/proc/uptime").read_text().split()[0])


def until(what: str, true: Callable[[], bool], seconds: float = PATIENCE) -> None:
    """Poll until it is true; fails with ``what`` after so many seconds."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"still not after {seconds} s: {what}"
        time.sleep(0.01)  # reason: the poll's own interval


def at_random(seconds: float, dice: random.Random) -> None:
    """Let a random time go by: this is when the kill falls."""
    time.sleep(dice.uniform(0, seconds))  # reason: the random instant is what is tried
