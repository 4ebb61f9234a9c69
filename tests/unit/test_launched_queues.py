"""Queues on AWS Batch as `ls` lists them, and which of them `reap` ends."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from runner.batch.names import job_name as job_name_of
from runner.core.state_file import StateFile
from runner.core.states import QueueStatus
from runner.model.document import JobSpec, QueueSpec
from runner.results.stored_queue import StoredQueue
from runner.targets.batch.coordinator_job import job_name
from runner.targets.batch.launch_record import BatchLaunch
from runner.targets.batch.launched_queues import LaunchedQueue, joined, overdue
from runner.targets.batch.launcher import QueueInStore

RUN = "0123456789abcdef"
LAUNCH = BatchLaunch("q", "s3://b/queues/q", "eu-west-1", "jobs", "abcdef0123", job="c-1")
JOBS = (JobSpec("a", "true", timeout=1.0),)
DOCUMENT = QueueSpec("q", "q", JOBS, on_failure="stop", global_timeout=600.0)
NOW = 1_000_000.0


def stored(status: QueueStatus, started_at: float = NOW - 60) -> QueueInStore:
    state = StateFile("q", RUN, status, (), started_at=started_at)
    return QueueInStore(DOCUMENT, StoredQueue(state, {}, {}, b""), LAUNCH)


def job(job_id: str, name: str, created: float = NOW - 50) -> dict[str, Any]:
    return {"jobId": job_id, "jobName": name, "status": "RUNNING", "createdAt": created * 1000}


OURS = job("j-1", job_name_of(RUN, 1, "a"))
OTHERS = job("j-2", job_name_of("fedcba9876543210", 1, "a"))
COORDINATOR = job("c-1", job_name("q", LAUNCH.launch))


def test_a_queue_has_its_own_jobs_and_no_others() -> None:
    """`reap` would end another queue's jobs, or leave some that cost."""
    one = joined(LAUNCH, stored(QueueStatus.RUNNING), [OTHERS, OURS, COORDINATOR])
    assert (one.coordinator, one.jobs, one.ids) == (COORDINATOR, (OURS,), ["c-1", "j-1"])
    assert (one.run_id, one.age(NOW), one.lives) == (RUN, 60.0, True)


def test_a_coordinator_whose_id_was_never_noted_is_found_by_its_name() -> None:
    """A launch that was cut off behind its submission would leave a job that nobody shows."""
    cut = replace(LAUNCH, job=None)
    found = joined(cut, QueueInStore(DOCUMENT, None, cut), [OTHERS, COORDINATOR])
    assert (found.coordinator, found.status, found.age(NOW)) == (COORDINATOR, None, 50.0)


def test_what_is_in_time_or_gone_is_left() -> None:
    """A queue that does its work would be ended."""
    one = joined(LAUNCH, stored(QueueStatus.RUNNING), [OURS, COORDINATOR])
    assert overdue(one, NOW, None) is None
    assert overdue(one, NOW, 3600.0) is None
    gone = joined(LAUNCH, stored(QueueStatus.RUNNING, NOW - 90_000), [OTHERS])
    assert not gone.lives and overdue(gone, NOW, 1.0) is None
    ending = joined(LAUNCH, stored(QueueStatus.COMPLETED), [COORDINATOR])
    assert overdue(ending, NOW, None) is None


def test_what_is_past_its_time_is_ended_and_why() -> None:
    """Jobs of a coordinator that is lost would run, and cost, until somebody sees them."""
    late = joined(LAUNCH, stored(QueueStatus.RUNNING, NOW - 600 - 3601), [OURS])
    assert overdue(late, NOW, None) == "its global timeout of 10m0s is over"
    left = joined(LAUNCH, stored(QueueStatus.CANCELLED), [OURS])
    assert overdue(left, NOW, None) == "the queue is cancelled, and its jobs are still there"
    one = joined(LAUNCH, stored(QueueStatus.RUNNING), [OURS])
    assert overdue(one, NOW, 30.0) == "older than 30s"
    unknown = LaunchedQueue(LAUNCH, coordinator=COORDINATOR, trouble="denied")
    assert overdue(unknown, NOW, None) is None and overdue(unknown, NOW, 10.0) == "older than 10s"
