"""The files of ended queues at a daemon's start: made true, unless they know more."""

import json
import os
from contextlib import closing
from pathlib import Path

from runner.core.history import StoryEntry
from runner.core.states import QueueState, QueueStatus
from runner.service.queue_repository import QueueRepository
from runner.service.state_files import write_stale
from runner.store import database
from runner.store.database import Database

DOCUMENT = json.dumps(
    {
        "queue_id": "q",
        "queue_name": "q",
        "global_timeout": "1h",
        "on_failure": "stop",
        "jobs": [{"job_id": "a", "command": "true", "timeout": "1m"}],
    }
)
RUN = "0123456789abcdef"


def test_a_file_that_knows_of_lost_steps_is_kept(tmp_path: Path) -> None:
    """What tells of a retry that the database has lost is written over by the end before it."""
    repository = QueueRepository(tmp_path / "state", tmp_path / "log")
    os.makedirs(repository.paths.locks)
    paths = repository.queue_paths("q")
    database.create(paths, DOCUMENT, QueueState(RUN), {"queue_id": "q"})
    with closing(Database(paths.database)) as opened:
        ended = QueueState(RUN, QueueStatus.FAILED, completed_at=5.0)
        opened.commit(ended, [], [StoryEntry(5.0, None, "queue_failed")], ["a"])
    told = paths.last_event.read_bytes()
    paths.last_event.write_text(f"{RUN} 9".ljust(63) + "\n")
    paths.projection.write_text("it knows more")
    assert write_stale(repository) == []
    assert paths.projection.read_text() == "it knows more"
    paths.last_event.write_bytes(told)
    assert write_stale(repository) == ["q"]
    assert json.loads(paths.projection.read_text())["status"] == "failed"
