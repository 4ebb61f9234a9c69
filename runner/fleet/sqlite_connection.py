"""The embedded database: SQLite in a folder, for workers of one machine."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from runner.errors import DiskError, disk_error
from runner.fleet.connection import SQLITE, DatabaseAwayError, Row, SqlConnection
from runner.store.sqlite_errors import translated

BUSY = 30.0
"""Seconds that a statement waits for another writer."""

_NOTHING: Mapping[str, Any] = {}


class SqliteConnection:
    """``fleet.db`` in a folder, which is made. Durable at each commit (WAL, synchronous=FULL)."""

    dialect = "sqlite"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._path = folder / "fleet.db"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise disk_error(folder, error) from None
        self._sqlite: sqlite3.Connection | None = None

    @contextmanager
    def _told(self, *, writing: bool = True) -> Iterator[None]:
        try:
            with translated(self._path, writing=writing):
                yield
        except DiskError as error:
            raise DatabaseAwayError(str(error)) from error

    def _open(self) -> sqlite3.Connection:
        if self._sqlite is None:
            made = sqlite3.connect(
                self._path, timeout=BUSY, isolation_level=None, check_same_thread=False
            )
            made.execute("PRAGMA journal_mode=WAL")
            made.execute("PRAGMA synchronous=FULL")
            made.execute("PRAGMA foreign_keys=ON")
            self._sqlite = made
        return self._sqlite

    def query(self, sql: str, values: Mapping[str, Any] = _NOTHING) -> list[Row]:
        """See SqlConnection."""
        with self._told():
            return self._open().execute(SQLITE.written(sql), values).fetchall()

    def change(self, sql: str, values: Mapping[str, Any] = _NOTHING) -> int:
        """See SqlConnection."""
        with self._told():
            return self._open().execute(SQLITE.written(sql), values).rowcount

    def script(self, sql: str) -> None:
        """See SqlConnection. ``executescript`` would commit first."""
        with self._told():
            statement = ""
            for line in sql.splitlines(keepends=True):
                statement += line
                if sqlite3.complete_statement(statement):
                    self._open().execute(statement)
                    statement = ""

    def load(self, table: str, columns: Mapping[str, str], rows: Iterable[Sequence[Any]]) -> None:
        """See SqlConnection."""
        told = ", ".join(f"{name} {kind}" for name, kind in columns.items())
        places = ", ".join("?" * len(columns))
        with self._told():
            connection = self._open()
            connection.execute(f"CREATE TEMP TABLE IF NOT EXISTS {table} ({told})")
            connection.execute(f"DELETE FROM {table}")
            connection.executemany(f"INSERT INTO {table} VALUES ({places})", rows)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """See SqlConnection. SQLite has one writer: it takes its turn here."""
        with self._told():
            self._open().execute("BEGIN IMMEDIATE")
        try:
            yield
            with self._told():
                self._open().execute("COMMIT")
        except BaseException:
            if self._sqlite is not None and self._sqlite.in_transaction:
                self._sqlite.execute("ROLLBACK")
            raise

    def lock_schema(self) -> None:
        """See SqlConnection: the transaction is the lock."""

    def another(self) -> SqlConnection:
        """See SqlConnection."""
        return SqliteConnection(self.folder)

    def describe(self) -> str:
        """See SqlConnection."""
        return str(self._path)

    def close(self) -> None:
        """See SqlConnection."""
        if self._sqlite is not None:
            self._sqlite.close()
            self._sqlite = None
