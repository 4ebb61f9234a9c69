"""What the files of an Executor's calls are called: NAME.call, NAME.result.ATTEMPT."""

from __future__ import annotations

REFUSED_SUFFIX = ".refused"
"""Behind a result's name: why its call could not be read."""


def call_name(job_id: str) -> str:
    """Of a call's payload."""
    return f"{job_id}.call"


def result_name(job_id: str, attempt: int) -> str:
    """Of what an attempt has left: the result, or the exception."""
    return f"{job_id}.result.{attempt}"
