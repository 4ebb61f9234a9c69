"""How one job reads in a table, whoever draws it: how long it took, and why it stands so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runner.model.durations import format_duration


def elapsed(job: Mapping[str, Any]) -> str:
    """``12.3s of 2m0s`` while it runs, else how long it took."""
    if job["status"] == "running":
        so_far = duration(job.get("elapsed_seconds", 0.0))
        # What is stored doesn't tell the timeout.
        return f"{so_far} of {job['timeout']}" if "timeout" in job else so_far
    seconds = job.get("duration_seconds")
    return "-" if seconds is None else duration(seconds)


def duration(seconds: float) -> str:
    """To a tenth of a second; below one to a millisecond; above a minute to a second."""
    return format_duration(shown_seconds(seconds))


def shown_seconds(seconds: float) -> float:
    """As exact as is shown of them."""
    digits = 0 if seconds >= 60 else 1 if seconds >= 1 else 3
    return round(seconds, digits)


def why(job: Mapping[str, Any]) -> str:
    """The reason of a state that has one, and what comes next."""
    reasons = [
        text
        for key in ("error_message", "reason", "result_error")
        if (text := job.get(key)) is not None
    ]
    if job.get("next_attempt_at"):
        reasons.append(f"next attempt at {job['next_attempt_at']}")
    if job.get("pid"):
        reasons.insert(0, f"PID {job['pid']}")
    return "; ".join(reasons)
