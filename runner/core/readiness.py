"""Whether a job that waits may start, given how its dependencies stand. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum

from runner.core.states import JobStatus


class Readiness(Enum):
    """Whether it is the job's turn."""

    READY = "ready"
    WAIT = "wait"


@dataclass(frozen=True, slots=True)
class Skip:
    """The job will not run, for this reason."""

    reason: str


_HOW = {
    JobStatus.FAILED: "failed",
    JobStatus.SKIPPED: "was skipped",
    JobStatus.CANCELLED: "was cancelled",
}


def judge(
    run_if: str,
    all_ended: bool,
    dependencies: Iterable[tuple[str, JobStatus]],
    failed_before: Callable[[], bool | None],
) -> Readiness | Skip:
    """Judge a job by (job_id, status) of dependencies: of all of them once ``all_ended``.

    Before that, any of them: one that did not complete is enough to skip who needs success.
    ``failed_before``: whether one was skipped for a failure before it; None: not known yet.
    """
    failed = False
    for job_id, status in dependencies:
        if run_if == "success" and status in _HOW:
            return Skip(f"dependency '{job_id}' {_HOW[status]}")
        failed = failed or status is JobStatus.FAILED
    if not all_ended:
        return Readiness.WAIT
    if run_if == "failure" and not failed:
        before = failed_before()
        if before is None:
            return Readiness.WAIT
        if not before:
            return Skip("no dependency failed")
    return Readiness.READY
