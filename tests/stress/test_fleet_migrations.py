"""`runner-fleet migrate` on a database of the schema before, whose workers are at work."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fleet_schema_2 import EXTEND, FINISH, OldWorker, tables

from runner.errors import UsageError
from runner.fleet.connection import TablesLockedError, migrations
from runner.fleet.database import FleetDatabase, open_database
from runner.fleet.records import Metrics, TaskState

PROGRAM = [sys.executable, "-c", "from runner.fleet.cli.main import main; main()"]
PATIENCE = 60.0
TASKS = 4000

ROWS = """
INSERT INTO jobs (name, config, options, created_at, updated_at)
    VALUES ('old', '{"a": 1}', '{"command": "true"}', NOW, NOW),
           ('other', '{}', '{"command": "true"}', NOW, NOW);
INSERT INTO drains VALUES (2, 'm1', NOW);
INSERT INTO volumes (w_id, i_id, s3_etag) VALUES ('W1', 'I1', 'e');
INSERT INTO workers (worker_name, job_id, host, pid, version, started_at, last_heartbeat_at)
    VALUES ('holder', 1, 'h', 1, '0', NOW, NOW);
INSERT INTO task_executions (job_id, task_key, params, state, not_before, enqueued_at, epoch, run,
        worker_id, claim_key, lease_until, volume_id)
    VALUES (1, 'W1/I1', '{}', 'running', NOW, NOW, 1, 1, 1, 'c', LATER, 1);
INSERT INTO task_executions (job_id, task_key, params, state, not_before, enqueued_at, epoch, run,
        attempts, error, dead_epoch)
    VALUES (1, 'bad', '{}', 'terminal_failed', NOW, NOW, 3, 3, 3, 'exit status 3', 3);
WITH RECURSIVE many(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM many WHERE n < 4000)
INSERT INTO task_executions (job_id, task_key, params, state, not_before, enqueued_at)
    SELECT 1, 'k' || n, '{}', 'pending', NOW, NOW FROM many;
"""


def waits_for(condition: Any) -> None:
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until, "it does not come true"
        time.sleep(0.02)  # reason: another process tells nobody


@pytest.fixture
def url(postgres: Any) -> str:
    """A database of schema 2, with a job in the midst of its work."""
    import psycopg

    found: str = postgres.database()
    rows = ROWS.replace("NOW", "now()").replace("LATER", "now() + interval '1 hour'")
    with psycopg.connect(found, autocommit=True) as connection:
        connection.execute((tables("postgresql") + rows).encode())
    return found


def migrates(url: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*PROGRAM, "migrate", "--database", url], env=dict(os.environ), text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


@pytest.fixture
def old(url: str) -> Iterator[list[OldWorker]]:
    workers = [OldWorker(url) for _ in range(3)]
    for each in workers:
        each.start()
    yield workers
    for each in workers:
        each.stopping.set()
        each.join(PATIENCE)


def test_two_migrate_at_once_while_old_workers_work(url: str, old: list[OldWorker]) -> None:
    """An upgrade would need all workers stopped; or half a step be made by each of two people."""
    waits_for(lambda: sum(len(each.done) for each in old) > 20)
    both = [migrates(url) for _ in range(2)]
    told = [each.communicate(timeout=PATIENCE) for each in both]
    assert [each.returncode for each in both] == [0, 0], told
    said = sorted(out.partition(": ")[2].strip() for out, _ in told)
    names = [name for number, name, _ in migrations("postgresql") if number > 2]
    assert said == sorted([", ".join(names), "it was up to date"]), told
    before = sum(len(each.done) for each in old)
    waits_for(lambda: sum(len(each.done) for each in old) > before + 20)
    # The new version works beside them, and what was claimed before goes on.
    database = open_database(url)
    database.check_schema()
    job = database.job("old")
    assert (job.config, job.options.command, job.max_running) == ('{"a": 1}', "true", None)
    worker, new = database.register(1, "new"), []
    for number in range(50):
        task = database.tasks.claim_next(1, worker, str(number), 60)
        assert task is not None and database.tasks.finish(task, Metrics(1, 0, 1.0))
        new.append(task.id)
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        held = {"task": 1, "epoch": 1, "lease": 60}
        assert connection.execute(EXTEND, held).rowcount == 1
        assert connection.execute(FINISH, held).rowcount == 1
    for each in old:
        each.join(PATIENCE)
        assert each.failure is None and not each.is_alive()
    done = [task for each in old for task in each.done] + new
    assert len(done) == len(set(done)) == TASKS, "each task once"
    totals = {each.state: each.count for each in database.views.totals(1)}
    assert totals == {TaskState.DONE: TASKS + 1, TaskState.TERMINAL_FAILED: 1}
    assert len(database.tasks.redrive(1, 9)) == 1 and database.draining(2) == ["m1"]
    database.close()


def test_claims_go_on_while_a_migration_waits(url: str, old: list[OldWorker]) -> None:
    """Somebody's open transaction would hold the migration up, and the migration all workers."""
    import psycopg

    waits_for(lambda: sum(len(each.done) for each in old) > 20)
    with psycopg.connect(url) as reader:
        reader.execute("SELECT count(*) FROM jobs")  # a pg_dump, or a person with psql
        migration = migrates(url)
        seen: list[str] = []
        assert migration.stderr is not None
        listening = threading.Thread(target=lambda: seen.append(migration.stderr.readline()))  # type: ignore[union-attr]
        listening.start()
        listening.join(PATIENCE)
        assert "tried again until its tables are free" in seen[0], seen
        before = sum(len(each.done) for each in old)
        waits_for(lambda: sum(len(each.done) for each in old) > before + 50)
        assert migration.poll() is None
        reader.rollback()
    out, err = migration.communicate(timeout=PATIENCE)
    assert migration.returncode == 0 and "0003_max_running" in out, err


def test_a_migration_that_gets_no_lock_says_so(url: str) -> None:
    """It would wait for ever, and nobody know for whom."""
    import psycopg

    database, pauses = open_database(url), list[float]()
    with psycopg.connect(url) as reader:
        reader.execute("SELECT count(*) FROM jobs")
        import runner.fleet.schema_steps as steps

        tries, steps.TRIES = steps.TRIES, 2
        try:
            with pytest.raises(TablesLockedError, match="lock timeout"):
                database.migrate(pause=pauses.append)
        finally:
            steps.TRIES = tries
        reader.rollback()
    assert len(pauses) == 1
    assert database.migrate(pause=pauses.append)[0] == "0003_max_running"
    database.close()


def embedded(folder: Path) -> FleetDatabase:
    """The same in SQLite."""
    folder.mkdir()
    with sqlite3.connect(folder / "fleet.db") as connection:
        connection.executescript(
            tables("sqlite") + ROWS.replace("NOW", "1.0").replace("LATER", "9e9")
        )
    connection.close()
    return open_database(str(folder))


def test_an_embedded_database_of_before_is_brought_up_to_date(tmp_path: Path) -> None:
    """A laptop's tasks would be gone after an upgrade, or two workers make one step twice."""
    database = embedded(tmp_path / "fleet")
    others = [database.another() for _ in range(4)]
    threads = [threading.Thread(target=each.check_schema) for each in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert database.migrate() == []
    held = database.tasks.find(1)
    assert held is not None and (held.state, held.key) == (TaskState.RUNNING, "W1/I1")
    assert database.tasks.extend(held, 60) and database.tasks.finish(held, Metrics())
    assert database.views.backlog(1).due == TASKS
    for each in (database, *others):
        each.close()


@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
def test_a_newer_schema_is_refused(
    backend: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """An old runner would write rows that the new one takes for something else."""
    address = str(tmp_path / "fleet")
    if backend == "postgresql":
        address = request.getfixturevalue("postgres").database()
    database = open_database(address)
    database.migrate()
    newest = migrations(backend)[-1][0]
    database._sql.change("INSERT INTO schema_migrations VALUES (99, '0099_x', {now})")
    for refuses in (database.check_schema, database.migrate):
        with pytest.raises(UsageError, match=rf"has schema 99.*this one knows {newest}: update it"):
            refuses()
    database.close()
    for words in (["jobs", "list"], ["worker", "--job-name", "j"], ["migrate"]):
        done = subprocess.run(
            [*PROGRAM, *words, "--database", address], text=True, capture_output=True, timeout=60,
            check=False,
        )  # fmt: skip
        assert done.returncode == 2 and "has schema 99" in done.stderr, done.stderr
        assert done.stdout == ""
