"""The fleet of schema 2, as it was: its tables, and what a worker of it asks of the database.

Frozen: databases and workers like these are out there. Nothing here follows the product.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
VERSIONS = {
    "postgresql": "CREATE TABLE schema_migrations"
    " (version bigint PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL);"
    "INSERT INTO schema_migrations VALUES (1, '0001_tables', now()), (2, '0002_drains', now());",
    "sqlite": "CREATE TABLE schema_migrations"
    " (version INTEGER PRIMARY KEY, name TEXT NOT NULL, applied_at REAL NOT NULL);"
    "INSERT INTO schema_migrations VALUES (1, '0001_tables', 1.0), (2, '0002_drains', 1.0);",
}

JOB = "SELECT id, name, config, options, queue_url, dlq_url, paused, created_at FROM jobs"
CLAIM = """WITH due AS MATERIALIZED (
    SELECT id AS due_id FROM task_executions
    WHERE job_id = %(job)s AND state IN ('pending', 'retryable_failed')
      AND not_before <= statement_timestamp()
      AND EXISTS (SELECT 1 FROM jobs WHERE jobs.id = %(job)s AND paused IS NULL)
    ORDER BY not_before, id LIMIT 1 FOR UPDATE SKIP LOCKED
)
UPDATE task_executions SET
    state = 'running', epoch = epoch + 1, run = COALESCE(resume_run, epoch + 1), resume_run = NULL,
    worker_id = %(worker)s, claim_key = 'c', started_at = statement_timestamp(), done_at = NULL,
    lease_until = (clock_timestamp() + make_interval(secs => %(lease)s))
FROM due WHERE task_executions.id = due.due_id RETURNING id, epoch"""
EXTEND = """UPDATE task_executions SET
    lease_until = (clock_timestamp() + make_interval(secs => %(lease)s))
WHERE id = %(task)s AND epoch = %(epoch)s AND state = 'running'
  AND lease_until > statement_timestamp()"""
FINISH = """UPDATE task_executions SET state = 'done', done_at = statement_timestamp(),
    lease_until = NULL, lost = 0, error = NULL, total_images = 1, nb_errors = 0,
    total_duration_ms = 1.0, avg_duration_per_page_ms = 1.0, metrics = NULL
WHERE id = %(task)s AND epoch = %(epoch)s AND state = 'running'"""
BEAT = "UPDATE workers SET last_heartbeat_at = statement_timestamp() WHERE id = %(worker)s"
REGISTER = """INSERT INTO workers
    (worker_name, job_id, host, pid, version, started_at, last_heartbeat_at)
VALUES ('old', %(job)s, 'h', 1, '0', statement_timestamp(), statement_timestamp()) RETURNING id"""


def tables(dialect: str) -> str:
    """The schema as `schema.sql` made it then."""
    return VERSIONS[dialect] + (FOLDER / f"{dialect}.sql").read_text()


class OldWorker(threading.Thread):
    """Takes tasks of job 1, one after the other, until it is told to stop or nothing is due."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self._url = url
        self.done: list[int] = []
        self.failure: BaseException | None = None
        self.stopping = threading.Event()

    def run(self) -> None:
        import psycopg

        try:
            with psycopg.connect(self._url, autocommit=True, prepare_threshold=None) as connection:
                worker = connection.execute(REGISTER, {"job": 1}).fetchone()
                assert worker is not None
                while not self.stopping.is_set() and self._one(connection, worker[0]):
                    pass
        except BaseException as error:
            self.failure = error

    def _one(self, connection: Any, worker: int) -> bool:
        connection.execute(f"{JOB} WHERE name = 'old'").fetchone()
        values = {"job": 1, "worker": worker, "lease": 60}
        if (task := connection.execute(CLAIM, values).fetchone()) is None:
            return False
        named = {"task": task[0], "epoch": task[1], "lease": 60}
        connection.execute(BEAT, values)
        assert connection.execute(EXTEND, named).rowcount == 1
        self.stopping.wait(0.005)  # reason: the task itself
        assert connection.execute(FINISH, named).rowcount == 1
        self.done.append(task[0])
        return True
