"""PostgreSQL as the fleet's database, by psycopg 3.

Works behind PgBouncer in transaction mode: nothing outlives a transaction (no prepared statements,
session locks, LISTEN). psycopg is imported when the first connection is made (0.2 s, measured).
"""

from __future__ import annotations

import os
import socket
import threading
import time
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from runner.errors import RunnerError, UsageError
from runner.fleet.connection import (
    POSTGRESQL,
    DatabaseAwayError,
    Row,
    SqlConnection,
    TablesLockedError,
)
from runner.fleet.iam_login import IamLogin

CONNECT_TIMEOUT = 10
"""Seconds."""

SCHEMA_LOCK = 0x72756E6E6572
"""The key of the advisory lock that migrations take."""

LOCK_TIMEOUT = 2_000
"""Milliseconds that a migration waits for a table, and others behind it."""

LOOK = 1.0
"""Seconds between two looks whether a call has waited too long."""

LOCKED = ("55P03", "40P01")
"""The SQLSTATEs of a lock that wasn't had in time, and of a deadlock."""

READ_ONLY = "25006"
"""The SQLSTATE of a server that has become a standby: the connection must be made anew."""

_NOTHING: Mapping[str, Any] = {}


class PostgresConnection:
    """``conninfo``: a ``postgresql://`` URL. ``login``: a token for each connection is the
    password. ``patience``: seconds until a
    call without an answer raises DatabaseAwayError; None: as long as the connection lives.

    TCP's own limits find a machine that is gone, but none that acknowledges and says nothing: a
    server that is frozen, a proxy that swallows all.
    """

    dialect = "postgresql"

    def __init__(
        self, conninfo: str, patience: float | None = None, login: IamLogin | None = None
    ) -> None:
        self._conninfo = conninfo
        self._login = login
        self._patience = patience
        self._connection: Any = None
        self._socket: socket.socket | None = None
        self._depth = 0
        self._waits_since: float | None = None

    def _open(self) -> Any:
        if self._connection is None or self._connection.closed:
            try:
                import psycopg
            except ImportError:
                raise UsageError(
                    "PostgreSQL needs psycopg: pip install 'queue-runner[fleet]'"
                ) from None
            secret: dict[str, Any] = (
                {} if self._login is None else {"password": self._token(self._login)}
            )
            self._connection = psycopg.connect(
                self._conninfo,
                **secret,
                autocommit=True,
                prepare_threshold=None,
                connect_timeout=CONNECT_TIMEOUT,
                application_name="runner-fleet",
                # A server that has vanished is found out about within a minute.
                keepalives_idle=20,
                keepalives_interval=10,
                keepalives_count=3,
                tcp_user_timeout=30_000,
            )
            # Each statement sees what it has waited for, whatever the server's own default is.
            self._connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
            # A descriptor of our own: libpq's may be another file's by the time it is shut down.
            self._socket = socket.socket(fileno=os.dup(self._connection.fileno()))
            if self._patience is not None:
                _WATCH.add(self)
        return self._connection

    def _token(self, login: IamLogin) -> str:
        from runner.aws.errors import AwsError

        try:
            return login.token()
        except AwsError as error:
            raise DatabaseAwayError(f"{self.describe()}: no IAM token: {error}") from error

    @contextmanager
    def _told(self) -> Iterator[None]:
        self._depth, self._waits_since = self._depth + 1, time.monotonic()
        try:
            yield
        except RunnerError:
            raise
        except Exception as error:
            from psycopg import Error, InterfaceError, OperationalError, ProgrammingError

            state = getattr(error, "sqlstate", None)
            if isinstance(error, OperationalError | InterfaceError) or state == READ_ONLY:
                self.close()
                told = " ".join(str(error).split()) or type(error).__name__
                kind = TablesLockedError if state in LOCKED else DatabaseAwayError
                raise kind(f"{self.describe()}: {told}") from error
            if isinstance(error, ProgrammingError) and self._connection is None:
                raise UsageError(f"the database's address: {error}") from None
            if isinstance(error, Error):
                first = (str(error).splitlines() or [type(error).__name__])[0]
                raise RunnerError(f"{self.describe()}: {first}") from error
            raise
        finally:
            self._depth -= 1
            self._waits_since = time.monotonic() if self._depth else None

    def query(self, sql: str, values: Mapping[str, Any] = _NOTHING) -> list[Row]:
        """See SqlConnection."""
        with self._told():
            cursor = self._open().execute(POSTGRESQL.written(sql), values)
            return list(cursor.fetchall()) if cursor.description else []

    def change(self, sql: str, values: Mapping[str, Any] = _NOTHING) -> int:
        """See SqlConnection."""
        with self._told():
            return int(self._open().execute(POSTGRESQL.written(sql), values).rowcount)

    def script(self, sql: str) -> None:
        """See SqlConnection."""
        with self._told():
            self._open().execute(sql)

    def load(self, table: str, columns: Mapping[str, str], rows: Iterable[Sequence[Any]]) -> None:
        """See SqlConnection."""
        told = ", ".join(f"{name} {kind}" for name, kind in columns.items())
        with self._told():
            connection = self._open()
            connection.execute(f"CREATE TEMP TABLE {table} ({told}) ON COMMIT DROP")
            with connection.cursor().copy(f"COPY {table} FROM STDIN") as copy:
                for row in rows:
                    copy.write_row(row)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """See SqlConnection."""
        with self._told():
            with self._open().transaction():
                yield

    def lock_schema(self) -> None:
        """See SqlConnection. Until the transaction's end: PgBouncer has no sessions.

        A lock on a table that isn't had soon is given up: every claim would queue behind it.
        """
        self.query("SELECT pg_advisory_xact_lock(:key)", {"key": SCHEMA_LOCK})
        self.script(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT}")

    def another(self) -> SqlConnection:
        """See SqlConnection."""
        return PostgresConnection(self._conninfo, self._patience, self._login)

    def abandon(self) -> None:
        """From the watching thread: a call that has waited longer than ``patience`` fails now."""
        since, connected = self._waits_since, self._socket
        if self._patience is None or since is None or connected is None:
            return
        if time.monotonic() > since + self._patience:
            with suppress(OSError):
                connected.shutdown(socket.SHUT_RDWR)

    def describe(self) -> str:
        """See SqlConnection."""
        with suppress(Exception):
            from psycopg.conninfo import conninfo_to_dict

            found = conninfo_to_dict(self._conninfo)
            where = f"{found.get('host', 'localhost')}:{found.get('port', 5432)}"
            return f"postgresql://{where}/{found.get('dbname', '')}"
        return "postgresql"

    def close(self) -> None:
        """See SqlConnection."""
        connection, self._connection = self._connection, None
        connected, self._socket = self._socket, None
        if connected is not None:
            connected.close()
        if connection is not None:
            with suppress(Exception):
                connection.close()


class _Watch:
    """One thread of the process that looks whether a call has waited too long."""

    def __init__(self) -> None:
        self._connections = weakref.WeakSet[PostgresConnection]()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def add(self, connection: PostgresConnection) -> None:
        """Look at this one from now on."""
        with self._lock:
            self._connections.add(connection)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="patience", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while True:
            time.sleep(LOOK)
            with self._lock:
                found = list(self._connections)
            for each in found:
                each.abandon()
            del found


_WATCH = _Watch()
