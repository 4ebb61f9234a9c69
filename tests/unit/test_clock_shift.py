"""Records on another host's clock."""

from __future__ import annotations

from runner.core.clock_shift import difference, shifted
from runner.core.events import Now
from runner.core.states import (
    JobState,
    JobStatus,
    Live,
    QueueState,
    job_from_record,
    queue_from_record,
    to_record,
)


def test_what_was_left_of_a_wait_is_left_on_another_clock() -> None:
    """A timeout or a retry's delay would begin anew, or be over at once, on each new host."""
    then, now = Now(wall=1000.0, mono=90_000.0), Now(wall=1060.0, mono=12.0)
    seconds = difference(then, now)
    before = JobState(retry_due=80_000.0)
    jobs = {
        0: JobState(JobStatus.PENDING, attempt=1, retry_due=90_100.0),
        1: JobState(
            JobStatus.RUNNING,
            attempt=1,
            live=Live("t-1", 0, 1, before, since=89_000.0, kill_at=90_030.0),
        ),
        2: JobState(JobStatus.COMPLETED, attempt=1, duration=5.0),
        3: JobState(JobStatus.RUNNING, attempt=1, live=Live("t-2", 1, 1)),
    }
    queue, moved = shifted(QueueState("run", mono=90_000.0, worked=7.0), jobs, seconds)
    assert (queue.mono, queue.worked) == (-48.0, 7.0)
    # 100 s were left, 60 of them are over.
    assert moved[0].retry_due == now.mono + 40.0
    live = moved[1].live
    assert live is not None and live.kill_at == now.mono - 30.0
    assert live.since == now.mono - 1060.0 and live.before.retry_due == now.mono - 10_060.0
    assert moved[2] == jobs[2] and moved[3] == jobs[3]


def test_times_before_the_boot_are_records_too() -> None:
    """A host that has just booted could not store the state of jobs that are older than it."""
    state = JobState(JobStatus.RUNNING, attempt=1, live=Live("t-1", 0, 1, since=-3600.5))
    assert job_from_record(to_record(state), "a job") == state
    queue = QueueState("run", mono=-3600.5)
    assert queue_from_record(to_record(queue), "a queue") == queue
