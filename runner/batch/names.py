"""Names in AWS Batch: of jobs, by which a driver finds its own again, and of definitions. Pure.

A job's name holds no epoch: whoever drives the queue finds what an earlier driver has submitted.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from runner.core.attempts import token_of

MAX_NAME = 128
"""Characters of a job's or definition's name: letters, digits, `-` and `_`, the first a letter or
digit (Batch API reference, SubmitJob and RegisterJobDefinition)."""

MAX_OVERRIDES = 8_192
"""Characters of a submission's container overrides as JSON: a job with more is accepted, and fails
with ``Container Overrides length must be at most 8192``."""

MAX_SUBMISSION = 30 * 1024
"""Bytes of a SubmitJob request (Batch User Guide, "Service quotas")."""

MAX_DEFINITION = 24 * 1024
"""Bytes of a RegisterJobDefinition request (the same page)."""

MIN_ARRAY, MAX_ARRAY = 2, 10_000
"""Children of an array (the same page)."""

MIN_TIMEOUT = 60
"""Seconds of ``attemptDurationSeconds`` (Batch API reference, JobTimeout)."""

PREFIX = "runner"
"""Of the names of jobs and definitions."""

_ODD = re.compile(r"[^A-Za-z0-9_-]+")
_HASH = 16


def job_prefix(run_id: str) -> str:
    """What the names of all jobs of a run begin with, for ListJobs; ends with ``-``."""
    return f"{PREFIX}-{_safe(run_id[:8])}-"


def job_name(run_id: str, start: int, job_id: str) -> str:
    """The name of the Batch job of a submission; ``start``: the number of its first start."""
    return f"{job_prefix(run_id)}{start:x}-{_safe(job_id)}"[:MAX_NAME]


def start_of(run_id: str, name: str) -> int:
    """The number of a start that a job's name tells; 0 for the name of another run's job."""
    prefix = job_prefix(run_id)
    number = name.removeprefix(prefix).partition("-")[0]
    if not name.startswith(prefix) or not re.fullmatch(r"[0-9a-f]{1,16}", number):
        return 0
    return int(number, 16)


def is_of_run(run_id: str, detail: Mapping[str, Any]) -> bool:
    """Whether a JobDetail is of a job that a driver of this run has submitted."""
    return start_of(run_id, str(detail.get("jobName", ""))) > 0


def submission_token(run_id: str, start: int) -> str:
    """What a submission is called: the token of its first attempt."""
    return token_of(run_id, start)


def definition_name(content: Mapping[str, Any]) -> str:
    """The name of the definition with this content; the same content has the same name."""
    told = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return f"{PREFIX}-{hashlib.sha256(told.encode()).hexdigest()[:_HASH]}"


def overrides_length(overrides: Mapping[str, Any]) -> int:
    """Characters that Batch counts of the overrides; at most MAX_OVERRIDES."""
    return len(json.dumps(overrides, separators=(",", ":")))


def _safe(text: str) -> str:
    return _ODD.sub("-", text)
