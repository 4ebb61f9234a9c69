"""The table of the jobs that a queue has got while it ran: there once it has got any.

Each call is made within a transaction of the caller's, who translates what SQLite raises.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Any

from runner.model.queue import AddedJob, JobSpec

_TABLE = """
CREATE TABLE IF NOT EXISTS added (place INTEGER PRIMARY KEY, parent TEXT, job TEXT NOT NULL)
"""


def _is_there(connection: sqlite3.Connection) -> bool:
    query = "SELECT 1 FROM sqlite_master WHERE name = 'added'"
    return connection.execute(query).fetchone() is not None


def count_rows(connection: sqlite3.Connection) -> int:
    """How many jobs there are."""
    if not _is_there(connection):
        return 0
    (count,) = connection.execute("SELECT count(*) FROM added").fetchone()
    return int(count)


def read_added(connection: sqlite3.Connection) -> Iterable[tuple[Any, ...]]:
    """The parent and the text of each, in order."""
    if not _is_there(connection):
        return ()
    return connection.execute("SELECT parent, job FROM added ORDER BY place")


def add_rows(connection: sqlite3.Connection, added: Iterable[tuple[int, AddedJob]]) -> None:
    """Write these, each at its place."""
    connection.execute(_TABLE)
    rows = [(place, each.parent, each.text) for place, each in added]
    connection.executemany("INSERT OR REPLACE INTO added VALUES (?, ?, ?)", rows)


def remove_added(connection: sqlite3.Connection) -> None:
    """As if there had never been any."""
    connection.execute("DROP TABLE IF EXISTS added")


def grown(document: str, added: list[AddedJob]) -> str:
    """A stored document with these at its end. A look at a queue that hasn't grown imports less."""
    if not added:
        return document
    from runner.model.growth import grown_text

    return grown_text(document, added)


def stored_form(job: JobSpec, parent: str | None) -> AddedJob:
    """A job as it is kept."""
    from runner.model.growth import added_job

    return added_job(job, parent)
