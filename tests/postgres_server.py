"""A PostgreSQL of the tests' own: on loopback, in a folder of its own, gone at the end."""

from __future__ import annotations

import glob
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

USER = "postgres"


def folder_of_programs() -> str | None:
    """Where the newest server's programs are; None: none is installed."""
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/postgres"), key=lambda path: len(path))
    return os.path.dirname(found[-1]) if found else None


def what_is_missing() -> str | None:
    """Why there can be no server here."""
    if folder_of_programs() is None:
        return "PostgreSQL is not installed (apt-get install postgresql)"
    try:
        import psycopg  # noqa: F401
    except ImportError:
        return "psycopg is not installed"
    return None


class PostgresServer:
    """Begun at once; ``database()`` gives the URL of a new, empty database."""

    def __init__(self) -> None:
        programs = folder_of_programs()
        assert programs is not None
        self._programs = programs
        self._home = Path(tempfile.mkdtemp(prefix="runner-pg-"))
        # The server refuses to be root.
        self._as: dict[str, Any] = {}
        if os.geteuid() == 0:
            self._as = {"user": USER, "group": USER, "extra_groups": []}
            shutil.chown(self._home, USER, USER)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        subprocess.run(
            [f"{programs}/initdb", "-D", str(self._home / "data"), "--auth=trust", "-U", USER,
             "--no-sync", "-E", "UTF8", "--locale=C"],
            check=True, stdout=subprocess.DEVNULL, cwd="/", **self._as,
        )  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Begin it (again), and wait until it answers."""
        self._process = subprocess.Popen(
            [f"{self._programs}/postgres", "-D", str(self._home / "data"), "-k", str(self._home),
             "-h", "127.0.0.1", "-p", str(self.port), "-c", "max_connections=60"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/", **self._as,
        )  # fmt: skip
        until = time.monotonic() + 20
        while True:
            try:
                self.connect().close()
                return
            except Exception:
                if time.monotonic() > until:
                    raise
                time.sleep(0.05)  # reason: a server that starts tells nobody when it listens

    def kill(self) -> None:
        """As a power cut would, its children with it."""
        assert self._process is not None
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait(20)

    @property
    def data(self) -> Path:
        """Its data folder."""
        return self._home / "data"

    def url(self, database: str = "postgres") -> str:
        """Of a database of it."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{database}"

    def connect(self, database: str = "postgres") -> Any:
        """A connection of psycopg, autocommitting."""
        import psycopg

        return psycopg.connect(self.url(database), autocommit=True, connect_timeout=5)

    def database(self) -> str:
        """The URL of a new one."""
        name = f"t{uuid.uuid4().hex[:12]}"
        with self.connect() as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    @contextmanager
    def tls(self, folder: Path) -> Iterator[Path]:
        """It speaks TLS as ``localhost`` meanwhile; the file of its certificate."""
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
             "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", "server.key",
             "-out", "server.crt"],
            cwd=self.data, check=True, capture_output=True,
        )  # fmt: skip
        for name in ("server.key", "server.crt"):
            os.chmod(self.data / name, 0o600)
            if os.geteuid() == 0:
                shutil.chown(self.data / name, USER, USER)
        certificate = folder / "root.crt"
        certificate.write_bytes((self.data / "server.crt").read_bytes())
        self._reload("ALTER SYSTEM SET ssl = on")
        yield certificate
        self._reload("ALTER SYSTEM RESET ssl")

    @contextmanager
    def checks_password_of(self, role: str) -> Iterator[None]:
        """This role logs in over TLS with a clear password only, as RDS has it for IAM tokens."""
        rules = self.data / "pg_hba.conf"
        before = rules.read_text()
        rules.write_text(f"hostssl all {role} all password\nhost all {role} all reject\n{before}")
        self._reload("SELECT 1")
        yield
        rules.write_text(before)
        self._reload("SELECT 1")

    def _reload(self, statement: str) -> None:
        with self.connect() as connection:
            connection.execute(statement)
            connection.execute("SELECT pg_reload_conf()")

    def close(self) -> None:
        """Stop it, and remove what it wrote."""
        if self._process is not None:
            self.kill()
        shutil.rmtree(self._home, ignore_errors=True)
