"""Plain text for people: no control characters from outside, numbers with their nouns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runner.model.printable import clean as clean


def counted(number: int, noun: str) -> str:
    """``1 job``, ``2 jobs``, ``1,000 jobs``."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def per_hour(dollars: float) -> str:
    """``$0.0416 an hour``: as exact as prices are, and at least cents."""
    if 0 < dollars < 0.00001:
        return "less than $0.00001 an hour"
    whole, _, part = f"{dollars:.5f}".rstrip("0").partition(".")
    return f"${whole}.{part:0<2} an hour"


def format_counts(counts: Mapping[str, int]) -> str:
    """How many jobs stand where: ``3 completed, 1 failed``."""
    return ", ".join(f"{n} {name}" for name, n in counts.items() if n)


def openness(queue: Mapping[str, Any]) -> str | None:
    """What a queue that others may add jobs to waits for; None for any other."""
    if not queue.get("accepts_jobs"):
        return None
    counts = queue.get("counts", {})
    busy = any(counts.get(status) for status in ("pending", "running", "interrupted"))
    return "open: takes jobs" if busy or not counts else "open: waits for jobs"


def headline(queue: Mapping[str, Any]) -> str:
    """A queue in one line: ``nightly running, paused``."""
    more = [openness(queue), "paused" if queue.get("paused") else None]
    state = ", ".join([f"{queue['queue_id']} {queue['status']}", *filter(None, more)])
    why = queue.get("reason") or queue.get("blocked")
    return f"{state}: {clean(str(why))}" if why else state
