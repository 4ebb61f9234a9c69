"""How one job reads in a table, whoever draws it: how long it took, and why it stands so."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from runner.cli.show.columns import Column, Cut, shortened
from runner.model.durations import format_duration, parse_duration

INDICES = 40
"""Characters of a list of an array's elements in a table: ``--job`` shows all of it."""

COLUMNS = (
    Column("JOB ID", Cut.MIDDLE, soft=24, least=12),
    Column("STATUS"),
    Column("ATTEMPT", leave_out=1),
    Column("EXIT", leave_out=3),
    Column("TIME", leave_out=4),
    Column("RESULTS", leave_out=2),
    Column("REASON", Cut.WRAP, soft=30, least=16, leave_out=5),
)
"""The table of ``status``: ids are shortened before anything else, a state never is."""


def row(job: Mapping[str, Any]) -> tuple[str, ...]:
    """A job's row in it."""
    uploaded = job.get("results_uploaded")
    return (
        job["job_id"],
        job["status"],
        str(job["attempt"]),
        exit_of(job),
        elapsed(job),
        "-" if uploaded is None else "yes" if uploaded else "no",
        why(job),
    )


def exit_of(job: Mapping[str, Any]) -> str:
    """The exit code, or the signal."""
    return str(job.get("exit_code", job.get("signal", "-")))


def went_well(job: Mapping[str, Any]) -> bool:
    """Whether it is done, with nothing to be told of it."""
    stored = False not in (job.get("results_uploaded"), job.get("logs_uploaded"))
    return job["status"] == "completed" and stored and not why(job)


def waits(job: Mapping[str, Any]) -> bool:
    """Whether it only waits for its turn, and has never begun."""
    return job["status"] == "pending" and not job["attempt"] and not why(job)


def elapsed(job: Mapping[str, Any]) -> str:
    """``12.3s of 2m0s`` while it runs, ``2m3s, over 2m0s`` in its grace, else how long it took."""
    if job["status"] == "running":
        seconds = job.get("elapsed_seconds", 0.0)
        # What is stored doesn't tell the timeout, and an array has none: its elements have.
        if "timeout" not in job or "array" in job:
            return duration(seconds)
        over = seconds > parse_duration(job["timeout"])
        return f"{duration(seconds)}{', over' if over else ' of'} {job['timeout']}"
    seconds = job.get("duration_seconds")
    return "-" if seconds is None else duration(seconds)


def to_the_second(time: str) -> str:
    """A time without what is smaller than a second: ``2026-01-22T14:05:30Z``."""
    return re.sub(r"\.\d+Z$", "Z", time)


def told_of_rest(jobs: Iterable[Mapping[str, Any]]) -> str:
    """Of jobs that aren't shown, how many stand where: ``12 completed, 3 pending``."""
    counts: dict[str, int] = {}
    for job in jobs:
        counts[job["status"]] = counts.get(job["status"], 0) + 1
    return ", ".join(f"{n:,} {name}" for name, n in counts.items())


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
    if stale := job.get("stale_results"):
        reasons.append(f"older than the job's first start: {', '.join(stale)}")
    if job.get("next_attempt_at"):
        reasons.append(f"next attempt at {job['next_attempt_at']}")
    if job.get("pid"):
        reasons.insert(0, f"PID {job['pid']}")
    if "array" in job:
        reasons = [*_progress(job), *reasons]
    return "; ".join(reasons)


def _progress(job: Mapping[str, Any]) -> Iterator[str]:
    """How far an array is, and which elements stand out; of one that went well nothing."""
    array, status = job["array"], job["status"]
    if status == "completed" or not job["attempt"]:
        return
    counts = array.get("counts", {})
    yield f"{counts.get('completed', 0):,} of {array['size']:,} completed"
    for name in ("running", "failed", "retried"):
        if indices := array.get(name):
            yield f"{name} [{shortened(indices, INDICES)}]"


def first_failed(job: Mapping[str, Any]) -> str:
    """The job, or of an array the first element that failed: whose logs tell why."""
    indices = job.get("array", {}).get("failed")
    return f"{job['job_id']}[{re.split('[-,]', indices)[0]}]" if indices else str(job["job_id"])
