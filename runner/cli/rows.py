"""How one job reads in a table, whoever draws it: how long it took, and why it stands so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runner.model.durations import format_duration


def elapsed(job: Mapping[str, Any]) -> str:
    """``12.3s of 2m0s`` while it runs, else how long it took."""
    if job["status"] == "running":
        return f"{duration(job.get('elapsed_seconds', 0.0))} of {job['timeout']}"
    seconds = job.get("duration_seconds")
    return "-" if seconds is None else duration(seconds)


def duration(seconds: float) -> str:
    """To a tenth of a second; below one to a millisecond; above a minute to a second."""
    digits = 0 if seconds >= 60 else 1 if seconds >= 1 else 3
    return format_duration(round(seconds, digits))


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
