"""PostgreSQL as people run it: behind PgBouncer in transaction mode, over TLS, with many rows."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.errors import UsageError
from runner.fleet.connection import DatabaseAwayError
from runner.fleet.database import open_database
from runner.fleet.records import JobOptions, Metrics, TaskItem, TaskState

PATIENCE = 20.0


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def works(url: str) -> None:
    """All that a command and a worker ask of a database."""
    database = open_database(url)
    database.migrate()
    job = database.create_job("ldv1", "{}", JobOptions(command="true"))
    items = [TaskItem.volume("W", str(number)) for number in range(20)]
    assert database.tasks.enqueue(job.id, items).new == 20
    worker, other = database.register(job.id, "w"), database.another()
    for number in range(10):
        task = database.tasks.claim_next(job.id, worker, str(number), 60)
        assert task is not None
        assert other.tasks.extend(task, 60)
        assert database.tasks.finish(task, Metrics(1, 0, 1.0))
    assert {each.state: each.count for each in other.views.totals(job.id)} == {
        TaskState.PENDING: 10, TaskState.DONE: 10,
    }  # fmt: skip
    other.close()
    database.close()


@pytest.fixture
def pgbouncer(postgres: Any) -> Iterator[str]:
    """The address of a database behind it, with two connections for all clients."""
    program = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
    if not os.path.exists(program):
        (pytest.fail if os.environ.get("CI") else pytest.skip)("PgBouncer is not installed")
    port, name = free_port(), postgres.database().rpartition("/")[2]
    folder = Path(tempfile.mkdtemp(prefix="runner-pgb-"))  # its user can't look into pytest's
    (folder / "users").write_text('"postgres" ""\n')
    (folder / "pgbouncer.ini").write_text(
        f"[databases]\n* = host=127.0.0.1 port={postgres.port}\n[pgbouncer]\n"
        f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = trust\n"
        f"auth_file = {folder}/users\npool_mode = transaction\ndefault_pool_size = 2\n"
        "ignore_startup_parameters = extra_float_digits\n"
    )
    user: dict[str, Any] = {}
    if os.geteuid() == 0:  # it refuses to be root
        user = {"user": "postgres", "group": "postgres", "extra_groups": []}
        for path in (folder, folder / "users", folder / "pgbouncer.ini"):
            shutil.chown(path, "postgres", "postgres")
    process = subprocess.Popen(
        [program, str(folder / "pgbouncer.ini")],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/", **user,
    )  # fmt: skip
    until = time.monotonic() + PATIENCE
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            break
        except OSError:
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.05)  # reason: it tells nobody when it listens
    yield f"postgresql://postgres@127.0.0.1:{port}/{name}"
    process.terminate()
    process.wait(PATIENCE)
    shutil.rmtree(folder)


def test_it_works_behind_pgbouncer_in_transaction_mode(pgbouncer: str) -> None:
    """Prepared statements, session locks or temporary tables would meet another session."""
    works(pgbouncer)


@pytest.fixture
def tls(postgres: Any, tmp_path: Path) -> Iterator[str]:
    """The address of a database that is reached over TLS, its certificate checked."""
    name = postgres.database().rpartition("/")[2]
    with postgres.tls(tmp_path) as certificate:
        more = f"sslmode=verify-full&sslrootcert={certificate}"
        yield f"postgresql://postgres@localhost:{postgres.port}/{name}?{more}"


def test_it_works_over_tls_and_refuses_another_server(tls: str) -> None:
    """A password would be sent to whoever answers."""
    works(tls)
    other = open_database(tls.replace("localhost", "127.0.0.1"))
    with pytest.raises(DatabaseAwayError, match="certificate"):
        other.migrate()
    other.close()


def test_a_database_without_tables_says_what_to_do(postgres: Any) -> None:
    """A newcomer would read of a relation that doesn't exist."""
    database = open_database(postgres.database())
    with pytest.raises(UsageError, match=r"has no tables of the fleet.*runner-fleet migrate"):
        database.check_schema()
    database.close()


def test_a_wrong_address_tells_no_password(postgres: Any) -> None:
    """It would be in terminals and logs."""
    address = postgres.url("nowhere").replace("postgres@", "postgres:pa55word@")
    database = open_database(address)
    with pytest.raises(DatabaseAwayError) as told:
        database.migrate()
    assert "pa55word" not in str(told.value) and "/nowhere" in str(told.value)
    assert "pa55word" not in database.describe()
    database.close()


def test_looks_and_claims_cost_the_same_whatever_the_number_of_tasks(
    postgres: Any, scaled: Any
) -> None:
    """A job of a million tasks would slow down each of its workers."""
    database = open_database(postgres.database())
    database.migrate()
    costs = []
    for count in (1_000, 1_000 * scaled(200)):
        job = database.create_job(f"j{count}", "{}", JobOptions(command="true")).id
        worker = database.register(job, "w")
        items = (TaskItem(f"k{n}") for n in range(count))
        assert database.tasks.enqueue(job, items).new == count
        found = []
        for number in range(60):
            before = time.perf_counter()
            task = database.tasks.claim_next(job, worker, str(number), 60)
            database.views.recent(job, 10)
            found.append(time.perf_counter() - before)
            assert task is not None and database.tasks.finish(task, Metrics(1, 0, 1.0))
        costs.append(sorted(found)[30])
        before = time.perf_counter()
        assert sum(each.count for each in database.views.totals(job)) == count
        took = time.perf_counter() - before
        print(f"{count} tasks: claim and look {costs[-1] * 1e3:.1f} ms, totals {took:.2f} s")
    assert costs[1] < 5 * costs[0] + 0.01
    database.close()
