"""§6: which changes are legal, and what is kept of a record."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import pytest
from core_driver import drive, job

from runner.core.events import AttemptEnded, AttemptStarted, Exited
from runner.core.states import (
    JOB_TRANSITIONS,
    PENDING,
    QUEUE_TRANSITIONS,
    JobState,
    JobStatus,
    Live,
    NoticeState,
    QueueState,
    QueueStatus,
    StopReason,
    job_from_record,
    queue_from_record,
    to_record,
)
from runner.errors import IllegalTransition, RecordError

JOB_TABLE = """
    pending -> running completed skipped cancelled failed
    running -> completed failed cancelled interrupted pending
    interrupted -> running failed cancelled
    failed -> pending
    skipped -> pending
    cancelled -> pending
    completed -> pending
"""

QUEUE_TABLE = """
    pending -> running cancelled
    running -> completed failed cancelled interrupted
    interrupted -> running
    failed -> running
    cancelled -> running
    completed -> running
"""


def _read(table: str) -> dict[str, set[str]]:
    rows = (line.split("->") for line in table.strip().splitlines())
    return {old.strip(): set(news.split()) for old, news in rows}


def test_the_jobs_table_is_the_pages() -> None:
    """A transition that the contract doesn't know would be legal."""
    table = {old.value: {new.value for new in news} for old, news in JOB_TRANSITIONS.items()}
    assert table == _read(JOB_TABLE)


def test_the_queues_table_is_the_pages() -> None:
    """A transition that the contract doesn't know would be legal."""
    table = {old.value: {new.value for new in news} for old, news in QUEUE_TRANSITIONS.items()}
    assert table == _read(QUEUE_TABLE)


@pytest.mark.parametrize("old", JobStatus)
@pytest.mark.parametrize("new", JobStatus)
def test_only_what_the_table_holds_is_put(old: JobStatus, new: JobStatus) -> None:
    """A bug would change a job's state silently."""
    q = drive(job("a"), job("b"))
    q.core.jobs[1] = JobState(status=old)
    if old is new or new in JOB_TRANSITIONS[old]:
        q.core.put(1, JobState(status=new))
        assert q["b"].status is new
    else:
        with pytest.raises(IllegalTransition, match=f"'b': {old.value} → {new.value}"):
            q.core.put(1, JobState(status=new))
        assert q["b"].status is old


def test_an_illegal_transition_tells_the_jobs_history() -> None:
    """Whoever reads the error would not know how it came about."""
    q = drive(job("other"), job("a"))
    q.ok("other")
    q.started("a")
    q.ends("a", Exited(3))
    with pytest.raises(IllegalTransition) as caught:
        q.core.put(1, replace(q["a"], status=JobStatus.RUNNING))
    lines = str(caught.value).splitlines()
    assert lines[0] == "job 'a': failed → running"
    assert [line.split()[1] for line in lines[1:]] == [
        "attempt_intended",
        "attempt_started",
        "attempt_failed",
    ]
    assert "exit_code=3" in lines[3]


def test_an_illegal_change_of_the_queue_raises() -> None:
    """A finished queue could be interrupted."""
    q = drive(job("a"))
    q.run()
    with pytest.raises(IllegalTransition, match="queue: completed → interrupted"):
        q.core.set_status(0.0, QueueStatus.INTERRUPTED, None)


FULL = JobState(
    cpu_seconds=1.5,
    max_rss_bytes=4096,
    oom_killed=True,
    status=JobStatus.RUNNING,
    attempt=3,
    counted=1,
    interruptions=2,
    unannounced=1,
    started_at=1.5,
    completed_at=2.5,
    duration=0.0,
    exit_code=0,
    signal="SIGTERM",
    timed_out=True,
    pid=7,
    error_message="é",
    reason="r",
    next_attempt_at=3.5,
    retry_due=4.5,
    results_uploaded=False,
    logs_uploaded=True,
    result_error="e",
    stale_results=("old.pt",),
    forced=True,
    taken_from="r/1",
    origin="r/0",
    first_started_at=0.5,
    collecting=True,
    spooled=True,
    restoring=True,
    fetching=True,
    fetched=True,
    input_seconds=1.5,
    needs_check=True,
    space_failures=2,
    rerun=True,
    background=True,
    live=Live(
        "t",
        0,
        3,
        before=JobState(status=JobStatus.INTERRUPTED, attempt=2, exit_code=0),
        since=5.5,
        stop=StopReason.TIMEOUT,
        kill_at=6.5,
        killed=True,
        over=True,
        last=True,
        in_reserve=True,
        keeps_time=True,
    ),
    slot=0,
    token="t",
    released=True,
)
QUEUE = QueueState(
    "run",
    QueueStatus.INTERRUPTED,
    "why",
    1.0,
    2.0,
    3.0,
    4.0,
    5.0,
    "boot",
    paused=True,
    cancelling=True,
    timed_out=True,
    halted="job 'a' failed",
    starts=9,
    epoch=3,
    incomplete=True,
    resumed="again",
    former={"gone": 2},
    notices=(
        NoticeState(
            "0" * 32,
            "failed",
            "eventbridge:b",
            6.0,
            1,
            "a",
            "failed",
            "why",
            {"failed": 1},
            7.0,
            "once",
            True,
        ),
    ),
    accepts_jobs=True,
)


def test_a_field_that_was_renamed_is_stored_under_its_first_name() -> None:
    """A state of the version before would be refused, or its checkpoint never looked for."""
    assert to_record(FULL)["doubted"] is True
    assert job_from_record({"status": "pending", "doubted": True}, "a job").needs_check


def test_every_field_survives_the_store() -> None:
    """Something of a job or a queue would be forgotten by a crash."""
    for record in (FULL, FULL.live, QUEUE, *QUEUE.notices):
        assert record is not None
        for each in fields(record):
            assert getattr(record, each.name) != each.default, f"{each.name} is not tested"
    assert job_from_record(json.loads(json.dumps(to_record(FULL))), "it") == FULL
    assert queue_from_record(json.loads(json.dumps(to_record(QUEUE))), "it") == QUEUE


def test_a_record_holds_only_what_says_something() -> None:
    """A hundred thousand waiting jobs would fill the disk with defaults."""
    assert to_record(PENDING) == {}
    assert to_record(JobState(exit_code=0, results_uploaded=False)) == {
        "exit_code": 0,
        "results_uploaded": False,
    }
    assert to_record(QueueState("x")) == {"run_id": "x"}
    assert job_from_record({}, "it") == PENDING
    assert queue_from_record({"run_id": "x"}, "it") == QueueState("x")


@pytest.mark.parametrize("record", [{"colour": 1}, {"live": {"token": "t", "colour": 1}}])
def test_a_field_of_another_version_is_an_error(record: dict[str, object]) -> None:
    """What a newer version has written would be dropped without a word."""
    with pytest.raises(RecordError, match="colour: unknown key"):
        job_from_record(record, "it")


def test_changes_are_what_the_store_has_to_write() -> None:
    """A step would write all jobs, or not the ones that changed."""
    q = drive(job("a"), job("b", "a"), job("c"))
    q.core.handle(AttemptStarted(q.now(), 0, q.token("a"), 1, q.mono))
    changes = q.core.take_changes()
    assert (changes.jobs, changes.urgent) == ({0}, False)
    q.core.handle(AttemptEnded(q.now(), 0, q.token("a"), Exited(0)))
    changes = q.core.take_changes()
    assert (changes.jobs, changes.urgent) == ({0, 1}, True)
    assert [entry.event for entry in changes.story] == ["attempt_completed", "attempt_intended"]
    assert q.core.take_changes().jobs == set()
