"""Which queues decide how long a machine stays when there is no work left."""

from __future__ import annotations

from pathlib import Path

from runner.core.states import QueueState, QueueStatus
from runner.service.machine_end import all_ended
from runner.service.shelf import Entry, Shelf


def ended(name: str, status: QueueStatus, at: float) -> Entry:
    queue = QueueState(run_id="r", status=status, completed_at=at)
    return Entry(name, "q", {"owner": "daemon"}, queue)


def test_a_failed_run_that_was_set_aside_keeps_no_machine(tmp_path: Path) -> None:
    """After a failure and a successful `--fresh` it would stay as long as after a failure."""
    entries = [
        ended("q.20260122T140530Z", QueueStatus.FAILED, 1.0),
        ended("q", QueueStatus.COMPLETED, 2.0),
    ]
    found = all_ended(entries, Shelf(tmp_path, tmp_path / "logs"))
    assert found is not None
    assert [(end.name, end.kept) for end in found] == [("q.20260122T140530Z", False), ("q", False)]
    again = all_ended([ended("q", QueueStatus.FAILED, 2.0)], Shelf(tmp_path, tmp_path / "logs"))
    assert again is not None and again[0].kept
