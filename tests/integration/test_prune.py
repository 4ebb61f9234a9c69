"""Which ended queues are removed, and when: by themselves and for a person."""

import os
from pathlib import Path

import pytest

from runner.core.states import QueueState, QueueStatus
from runner.errors import RunnerError
from runner.service import queue_ages
from runner.service.queue_ages import QueueAges, Reading, check_clock, read_ages
from runner.service.queue_repository import QueueRepository
from runner.service.retention import prune
from runner.store import database

DAY = 86_400.0
YEAR = 366 * DAY
NOW = 1_800_000_000.0


def test_what_cannot_be_read_makes_nothing_old(tmp_path: Path) -> None:
    """A torn file of ages stops the daemon, or lets it remove what it likes."""
    path = tmp_path / "ages.json"
    for content in (
        b"",
        b"[]",
        b'{"reading": 3}',
        b'{"reading": {"wall": "x"}, "kept": {}}',
        b"\xff",
    ):
        path.write_bytes(content)
        assert read_ages(path) == QueueAges()


def test_a_person_is_told_of_a_clock_that_cannot_be_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``runner prune`` on a machine whose clock is ahead removes everything without a word."""
    path = tmp_path / "ages.json"
    clocks = [Reading(NOW, "b", 100.0)]
    monkeypatch.setattr(queue_ages, "read_clocks", lambda: clocks[0])
    check_clock(path, NOW - DAY, remember=True)
    clocks[0] = Reading(NOW + 3 * DAY, "b", 100.0)
    for remember in (False, True):
        with pytest.raises(RunnerError, match="72h0m0s later than it can be"):
            check_clock(path, NOW, remember=remember)
    check_clock(path, NOW, remember=True)
    path.unlink()
    with pytest.raises(RunnerError, match="nothing was removed"):
        check_clock(path, NOW - 2 * YEAR, remember=False)


def test_only_old_queues_are_removed_and_one_that_ran_again_is_young(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The daemon's own pruning goes by one reading, or by what a queue was before a retry."""
    clocks = [Reading(NOW, "b", 100.0)]
    monkeypatch.setattr("runner.service.retention.read_clocks", lambda: clocks[0])
    repository = QueueRepository(tmp_path / "state", tmp_path / "log")
    for name in ("old", "again"):
        ended = QueueState("r", QueueStatus.COMPLETED, completed_at=NOW)
        database.create(repository.queue_paths(name), "{}", ended, {"queue_id": name})
    os.makedirs(repository.paths.locks)
    assert prune(repository, 30 * DAY) == []
    clocks[0] = Reading(NOW + 200 * YEAR, "b", 200.0)
    assert prune(repository, 30 * DAY) == []
    opened = database.Database(repository.queue_paths("again").database)
    opened.commit(QueueState("r", QueueStatus.COMPLETED, completed_at=NOW + 60), [], [], [])
    opened.close()
    clocks[0] = Reading(NOW, "b", 200.0 + 30 * DAY)
    assert prune(repository, 30 * DAY, dry_run=True) == ["old"]
    assert prune(repository, 30 * DAY) == ["old"]
    assert repository.names() == ["again"]
