"""What the daemon says of a queue unasked: its progress in one line, and what is a warning.

Changes nothing.
"""

from __future__ import annotations

from runner.core.states import ENDED, JobStatus
from runner.service.session import Session

TROUBLE = frozenset(
    {
        "attempt_failed",
        "checkpoint_lost",
        "checkpoint_not_stored",
        "failed",
        "global_timeout",
        "halted",
        "inputs_delayed",
        "inputs_failed",
        "notice_delayed",
        "notice_given_up",
        "outputs_lost",
        "queue_failed",
        "queue_stuck",
        "results_delayed",
        "results_incomplete",
        "started_in_reserve",
        "starts_blocked",
        "state_not_written",
        "state_went_back",
        "stray_ended",
        "taken_over",
    }
)
"""Lines of a story that somebody who reads warnings only wants to see."""


def progress(session: Session) -> str:
    """``nightly: 12 of 40 jobs done, 2 running``, and what holds it up."""
    scheduler = session.scheduler
    counts = scheduler.job_counts
    done = sum(counts[status] for status in ENDED)
    total = counts.total()
    text = f"{session.name}: {done} of {total} job{'' if total == 1 else 's'} done"
    for status in (JobStatus.RUNNING, JobStatus.FAILED):
        if counts[status]:
            text += f", {counts[status]} {status.value}"
    if scheduler.queue.accepts_jobs and done == total:
        text += ", open: waits for jobs"
    if scheduler.queue.paused:
        text += ", paused"
    if (why := scheduler.blocked or session.engine.trouble) is not None:
        text += f"; blocked: {why}"
    return text
