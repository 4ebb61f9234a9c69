"""What interrupted attempts have saved: stored before the machine goes, looked for after a boot."""

from __future__ import annotations

from typing import Any

from core_driver import Driver, drive, job

from runner.core.actions import SaveCheckpoint
from runner.core.events import CheckpointSaved, Exited, InputsFetched, SpotNotice
from runner.core.states import JobStatus, QueueStatus

SAVES: dict[str, Any] = {"checkpoint_paths": ("ckpt/**",)}


def saved(q: Driver) -> list[int]:
    return [action.job for action in q.all if isinstance(action, SaveCheckpoint)]


def interrupted(*, collects: bool = True) -> Driver:
    """A job that saves and one that doesn't were ended by a spot notice."""
    q = drive(job("a", **SAVES), job("b"), parallel=2, collects=collects)
    q.started("a")
    q.started("b")
    q.send(SpotNotice(q.now(), "spot", q.wall + 120))
    q.lose("a")
    q.lose("b")
    assert q.finish is QueueStatus.INTERRUPTED
    return q


def test_only_an_orderly_end_with_a_store_saves() -> None:
    """The two minutes would pass unused; or an upload go on beside the next attempt's writing."""
    assert saved(interrupted()) == [0]
    assert saved(interrupted(collects=False)) == []
    q = drive(job("a", **SAVES), collects=True)
    q.started("a")
    q.lose("a")
    assert saved(q) == [], "it starts again at once, beside its files"


def test_a_completed_job_saves_nothing() -> None:
    """An upload of gigabytes would take the time of those who need it."""
    q = drive(job("a", **SAVES), collects=True)
    q.started("a")
    q.over("a")
    q.interrupt()
    q.ends("a", Exited(0))
    assert q["a"].status is JobStatus.COMPLETED and saved(q) == []


def test_what_came_of_it_is_told() -> None:
    """Nobody would know that the work is safe, or that it isn't."""
    q = interrupted()
    q.send(CheckpointSaved(q.now(), 0, 3, 12))
    q.send(CheckpointSaved(q.now(), 0))
    q.send(CheckpointSaved(q.now(), 0, error="no time"))
    told = [(entry.event, entry.detail) for entry in q.story[-3:]]
    assert told == [
        ("checkpoint_stored", {"files": 3, "bytes": 12}),
        ("checkpoint_empty", None),
        ("checkpoint_not_stored", {"why": "no time"}),
    ]


def test_after_a_boot_it_is_looked_for_before_the_next_attempt() -> None:
    """The job would begin anew on an empty disk, beside a checkpoint in the store."""
    q = interrupted()
    q.crash(boot=True)
    q.open(collects=True)
    assert (q.fetches, q.starts) == (["a"], ["b"])
    assert q["a"].reason == "looking for its checkpoint"
    q.hampered("a")
    assert q["a"].reason == "looking for its checkpoint: 503 SlowDown"
    q.send(InputsFetched(q.now(), 0, 1.0, restored=2))
    assert q.starts == ["a"] and not q["a"].needs_check
    assert any(entry.event == "checkpoint_restored" for entry in q.story)


def test_one_that_is_lost_costs_work_and_not_the_queue() -> None:
    """A queue would wait for ever for what nobody has."""
    q = interrupted()
    q.crash(boot=True)
    q.open(collects=True)
    q.send(InputsFetched(q.now(), 0, 1.0, lost="gone"))
    assert q.starts == ["a"]
    assert any(entry.event == "checkpoint_lost" for entry in q.story)


def test_on_the_same_boot_or_without_a_store_nothing_is_looked_for() -> None:
    """Every restart of the service would cost a request, and a disk without a store wait."""
    for boot, collects in ((False, True), (True, False)):
        q = interrupted()
        q.crash(boot=boot)
        q.open(collects=collects)
        assert q.starts == ["a", "b"]


def test_a_killed_session_leaves_the_doubt_to_the_next() -> None:
    """A daemon that is killed while it looks would have the job start on an empty disk."""
    q = interrupted()
    q.crash(boot=True)
    q.open(collects=True)
    q.crash()
    q.open(collects=True)
    assert q.fetches == ["a"]
