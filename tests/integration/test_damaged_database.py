"""A queue's database with a record that no runner wrote: refused by name, and left as it is."""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from doors import QUEUE, RECORD
from mutations import damaged

from runner.core.states import PENDING, to_record
from runner.errors import DamagedError
from runner.store import database
from runner.store.database import Database
from runner.store.paths import QueuePaths

JOBS = [{"job_id": name, "command": "true", "timeout": "1m"} for name in "ab"]
DOCUMENT = json.dumps(
    {"queue_name": "n", "global_timeout": "1h", "on_failure": "stop", "jobs": JOBS}
)


@pytest.fixture
def paths(tmp_path: Path) -> QueuePaths:
    made = QueuePaths(tmp_path / "queues" / "q")
    database.create(made, DOCUMENT, QUEUE, {"queue_id": "q"})
    with closing(Database(made.database)) as opened:
        opened.commit(QUEUE, [(0, RECORD), (1, PENDING)], [], ["a", "b"])
    return made


def write(paths: QueuePaths, statement: str, *values: Any) -> None:
    with closing(sqlite3.connect(paths.database)) as connection:
        connection.execute(statement, values)
        connection.commit()


@pytest.mark.parametrize(
    ("statement", "value", "message"),
    [
        ("UPDATE jobs SET idx = ? WHERE idx = 1", 2, "job 2: the document has 2 jobs"),
        ("UPDATE jobs SET idx = ? WHERE idx = 1", -1, "job -1: the document has 2 jobs"),
        ("UPDATE jobs SET record = ? WHERE idx = 1", b"\xff", "job 1: must be a string"),
        ("UPDATE jobs SET record = ? WHERE idx = 1", "[]", "job 1: must be an object"),
        ("UPDATE jobs SET record = ? WHERE idx = 1", '{"duration": "x"}', "job 1: duration: must"),
        ("UPDATE jobs SET record = ? WHERE idx = 1", '{"pid": 1e999}', "job 1: is not JSON"),
        ("UPDATE jobs SET record = ? WHERE idx = 1", '{"colour": 1}', "job 1: colour: unknown key"),
        ("UPDATE queue SET record = ?", "{}", "record: run_id: is required, but missing"),
        ("UPDATE queue SET record = ?", '{"run_id": "r", "started_at": 1e300}', "started_at: must"),
        ("UPDATE meta SET value = ? WHERE key = 'document'", "{}", "is not one that was accepted"),
        ("UPDATE meta SET value = ? WHERE key = 'document'", "{", "the document: is not JSON"),
        ("UPDATE meta SET value = ? WHERE key = 'document'", '{"queue_name": "n", "jobs": [7]}',
         "is not one that was accepted"),
        ("UPDATE meta SET value = ? WHERE key = 'queue_id'", "../q", "its queue_id"),
        ("UPDATE meta SET value = ? WHERE key = 'queue_id'", b"q", "a word of its own"),
        ("DELETE FROM meta WHERE key = ?", "queue_id", "its queue_id: must be a string, not null"),
    ],
)  # fmt: skip
def test_a_damaged_record_is_refused_by_name(
    paths: QueuePaths, statement: str, value: Any, message: str
) -> None:
    """A daemon would die of it at every start, or go on with another job's state."""
    write(paths, statement, value)
    before = paths.database.read_bytes()
    with pytest.raises(DamagedError) as caught, closing(Database(paths.database)) as opened:
        opened.load()
    assert message in str(caught.value) and str(paths.database) in str(caught.value)
    assert "left as it is" in str(caught.value)
    assert paths.database.read_bytes() == before


def test_random_damage_is_refused_or_loads_whole(paths: QueuePaths, tmp_path: Path) -> None:
    """An error that nobody catches would end whoever opens the database."""
    draw = random.Random(1)
    for number in range(60):
        copy = tmp_path / f"{number}.db"
        shutil.copy(paths.database, copy)
        damage = damaged(to_record(RECORD), draw).decode("utf-8", "replace")
        with closing(sqlite3.connect(copy)) as connection:
            connection.execute("UPDATE jobs SET record = ? WHERE idx = 0", [damage])
            connection.commit()
        try:
            with closing(Database(copy)) as opened:
                assert opened.load().jobs.keys() <= {0, 1}
        except DamagedError:
            pass


def test_an_event_that_is_none_refuses_the_story_and_not_the_queue(paths: QueuePaths) -> None:
    """What only people read would keep a queue from being worked on."""
    write(paths, "INSERT INTO events VALUES (9, 'soon', NULL, 'x', NULL)")
    with closing(Database(paths.database)) as opened:
        assert opened.load().queue == QUEUE
        with pytest.raises(DamagedError, match="an event: wall: must be a number"):
            opened.story()
