"""Which queues decide how long a machine stays when there is no work left."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from runner.core.machine_lifetime import Moment
from runner.core.states import QueueState, QueueStatus
from runner.service import machine_end
from runner.service.machine_end import all_ended
from runner.service.queue_entry import QueueEntry
from runner.service.queue_repository import QueueRepository


def ended(name: str, status: QueueStatus, at: float) -> QueueEntry:
    queue = QueueState(run_id="r", status=status, completed_at=at)
    return QueueEntry(name, "q", {"owner": "daemon"}, queue)


def test_a_failed_run_that_was_set_aside_keeps_no_machine(tmp_path: Path) -> None:
    """After a failure and a successful `--fresh` it would stay as long as after a failure."""
    entries = [
        ended("q.20260122T140530Z", QueueStatus.FAILED, 1.0),
        ended("q", QueueStatus.COMPLETED, 2.0),
    ]
    found = all_ended(entries, QueueRepository(tmp_path, tmp_path / "logs"))
    assert found is not None
    assert [(end.name, end.kept) for end in found] == [("q.20260122T140530Z", False), ("q", False)]
    again = all_ended(
        [ended("q", QueueStatus.FAILED, 2.0)], QueueRepository(tmp_path, tmp_path / "logs")
    )
    assert again is not None and again[0].kept


@pytest.mark.parametrize("jump", [-1e6, 1e6])
def test_since_when_a_queue_has_ended_is_not_the_wall_clocks_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    """A clock that is set after a failure would leave no time to look at it, or days of it."""
    mono, wall = time.monotonic(), time.time()
    monkeypatch.setattr(machine_end, "this_moment", lambda: Moment("b", 5000.0, wall + jump))
    entry = ended("bad", QueueStatus.FAILED, wall - 600)
    assert entry.queue is not None
    here = replace(entry, queue=replace(entry.queue, boot_id="b", mono=mono - 600))
    before = replace(entry, queue=replace(entry.queue, boot_id="a", mono=mono - 600))
    repository = QueueRepository(tmp_path, tmp_path / "logs")
    (end,) = all_ended([here], repository) or []
    assert 600 <= end.age < 660
    (end,) = all_ended([before], repository) or []
    assert end.age == pytest.approx(max(0.0, 600 + jump))
