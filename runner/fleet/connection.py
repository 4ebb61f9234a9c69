"""What a database is to the fleet: statements in one dialect of SQL, and how they are written for
SQLite and for PostgreSQL.

Statements name their values ``:name`` and say ``{now}`` for the database's own clock, ``{after:x}``
for ``:x`` seconds later, ``{skip_locked}`` after what is locked, ``{lock_row}`` after a row that
stays as it is until the transaction ends. Owns no statement.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from runner.errors import RunnerError

Row = tuple[Any, ...]

_MACRO = re.compile(r"\{(\w+)(?::(\w+))?\}")


class DatabaseAwayError(RunnerError):
    """The fleet's database did not answer, or refused for now; the same call may succeed later.

    Whether a call that failed so had its effect is not known.
    """


class TablesLockedError(DatabaseAwayError):
    """Others hold the tables that a migration changes."""


class SqlConnection(Protocol):
    """One connection, for one thread. A statement outside ``transaction`` is one by itself.

    All raise DatabaseAwayError; after it the connection is made anew when it is next used.
    """

    dialect: str

    def query(self, sql: str, values: Mapping[str, Any] = ...) -> list[Row]:
        """The rows that a statement gives; none for one that gives none."""

    def change(self, sql: str, values: Mapping[str, Any] = ...) -> int:
        """How many rows a statement changed."""

    def script(self, sql: str) -> None:
        """Several statements at once, inside a transaction."""

    def load(self, table: str, columns: Mapping[str, str], rows: Iterable[Sequence[Any]]) -> None:
        """Make a table for this transaction (columns with their types), and fill it."""

    def transaction(self) -> AbstractContextManager[None]:
        """All or nothing; other writers wait for locks, never for a reader."""

    def lock_schema(self) -> None:
        """Inside a transaction: nobody else migrates meanwhile."""

    def another(self) -> SqlConnection:
        """A connection of its own to the same database, for another thread."""

    def describe(self) -> str:
        """Which database this is, for people, without its password."""

    def close(self) -> None:
        """Give it back."""


class Dialect:
    """How the macros are written in one kind of database."""

    def __init__(
        self, name: str, now: str, after: str, skip_locked: str, lock_row: str, value: str
    ) -> None:
        self.name = name
        self._words = {
            "now": now,
            "after": after,
            "skip_locked": skip_locked,
            "lock_row": lock_row,
        }
        self._value = value
        self.written = cache(self._written)

    def _written(self, sql: str) -> str:
        def word(found: re.Match[str]) -> str:
            return self._words[found[1]].replace("VALUE", f":{found[2]}")

        text = _MACRO.sub(word, sql)
        return re.sub(r"(?<![:\w]):(\w+)", self._value, text)


SQLITE = Dialect(
    "sqlite",
    "((julianday('now') - 2440587.5) * 86400.0)",
    "((julianday('now') - 2440587.5) * 86400.0 + VALUE)",
    "",
    "",
    r":\1",
)
POSTGRESQL = Dialect(
    "postgresql",
    # Not now(), which is when the transaction began, nor what changes within a statement: no index
    # can be searched for it.
    "statement_timestamp()",
    "(clock_timestamp() + make_interval(secs => VALUE))",
    "FOR UPDATE SKIP LOCKED",
    # Rows that refer to this one may be added meanwhile.
    "FOR NO KEY UPDATE",
    r"%(\1)s",
)


def migrations(dialect: str) -> list[tuple[int, str, str]]:
    """Number, name and text of each step of the schema, in order."""
    found = []
    # Not by importlib.resources, which takes as long to import as all that a command needs.
    for file in (Path(__file__).parent / "migrations" / dialect).iterdir():
        name = file.name.removesuffix(".sql")
        found.append((int(name.partition("_")[0]), name, file.read_text(encoding="utf-8")))
    return sorted(found)


def schema_text() -> str:
    """``schema.sql``: the PostgreSQL schema as ``psql -f`` takes it, its version noted."""
    parts = ["-- Made of runner's migrations; `runner-fleet migrate` brings a database as far."]
    parts += ["BEGIN;", VERSIONS["postgresql"]]
    for number, name, text in migrations("postgresql"):
        parts.append(f"-- {name}\n{text.rstrip()}")
        parts.append(f"INSERT INTO schema_migrations VALUES ({number}, '{name}', now());")
    return "\n".join([*parts, "COMMIT;"]) + "\n"


VERSIONS = {
    "sqlite": "CREATE TABLE IF NOT EXISTS schema_migrations"
    " (version INTEGER PRIMARY KEY, name TEXT NOT NULL, applied_at REAL NOT NULL);",
    "postgresql": "CREATE TABLE IF NOT EXISTS schema_migrations"
    " (version bigint PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL);",
}
