"""Where the results of a fleet's tasks are: what says that a task is done."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from runner.fleet import task_store
from runner.fleet.database import open_database
from runner.fleet.records import FleetTask, JobOptions, Metrics, TaskItem
from runner.fleet.task_store import MARKER, TaskStore
from runner.model.settings import load_settings


def _claimed(folder: Path) -> FleetTask:
    with closing(open_database(str(folder))) as database:
        database.migrate()
        job = database.create_job("j", "{}", JobOptions(command="true")).id
        database.tasks.enqueue(job, [TaskItem.volume("W1", "I1")])
        task = database.tasks.claim_next(job, database.register(job, "w"), "c", 60.0)
    assert task is not None
    return task


def test_a_marker_and_the_folders_that_lead_to_it_are_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a power cut a task would be done in the database, and its results gone."""
    synced: list[Path] = []
    monkeypatch.setattr(task_store, "sync_folder", synced.append)
    task, settings = _claimed(tmp_path / "fleet"), load_settings({}, root=False, home=tmp_path)
    root = tmp_path / "results"
    with closing(TaskStore(str(root), settings)) as store:
        marker = store.write(task, "w", Metrics(total_images=3), 1.0)
        assert store.write(task, "other", Metrics(total_images=4), 2.0) == marker
        with closing(store.run_store(task)) as run:
            run.put_bytes("a", b"x")
            assert run.describe() == f"{root}/W1/I1/{task.run}"
    assert (root / "W1/I1" / MARKER).is_file() and (root / f"W1/I1/{task.run}/a").is_file()
    assert synced[:3] == [root / "W1/I1", root / "W1", root]
