"""State that is of no use after a power cut is not synced; all other state is."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from runner.model.document import parse_document
from runner.service.queue_repository import QueueRepository
from runner.store.database import Database
from runner.store.folder_id import folder_id
from runner.store.projection import write_projection

DOCUMENT = b"""{"queue_id": "q", "queue_name": "q", "global_timeout": "1m", "on_failure": "stop",
"jobs": [{"job_id": "a", "command": "true", "timeout": "1m"}]}"""
FULL, OFF = 2, 0


@pytest.mark.parametrize("durable", [True, False])
def test_only_durable_state_is_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durable: bool
) -> None:
    """A queue would be lost in a power cut, or each task of a fleet wait for 25 syncs."""
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    repository = QueueRepository(tmp_path / "state", tmp_path / "logs", durable=durable)
    repository.create(parse_document(DOCUMENT), "run", anonymous=False)
    paths = repository.queue_paths("q")
    assert (len(synced) > 0) is durable
    synced.clear()
    write_projection(paths.projection, [b"{}"], durable=paths.durable)
    assert len(folder_id(repository.paths.folder_id, durable=paths.durable)) == 32
    assert len(synced) == (4 if durable else 0)
    with closing(Database(paths.database, durable=paths.durable)) as database:
        connection: sqlite3.Connection = database._connection
        assert connection.execute("PRAGMA synchronous").fetchone() == (FULL if durable else OFF,)
