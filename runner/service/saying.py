"""The daemon's progress in one line, for whoever asks the service manager. Changes nothing."""

from __future__ import annotations

from runner.core.states import ENDED, JobStatus
from runner.service.session import Session


def progress(session: Session) -> str:
    """``nightly: 12 of 40 jobs done, 2 running``, and what holds it up."""
    scheduler = session.scheduler
    counts = scheduler.counts
    done = sum(counts[status] for status in ENDED)
    text = f"{session.name}: {done} of {len(session.job_ids)} jobs done"
    for status in (JobStatus.RUNNING, JobStatus.FAILED):
        if counts[status]:
            text += f", {counts[status]} {status.value}"
    if scheduler.queue.paused:
        text += ", paused"
    if (why := scheduler.blocked or session.engine.trouble) is not None:
        text += f"; blocked: {why}"
    return text
