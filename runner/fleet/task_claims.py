"""How a worker gets a task: claims on the task table, and a job's limit of tasks that run at once.

A claim is one statement. Where the job has a limit it is a transaction that holds the job's row:
claims of the same job take turns then, so that each counts what the one before it has taken.
"""

from __future__ import annotations

from typing import Any

from runner.fleet.connection import SqlConnection
from runner.fleet.records import LOST_LIMIT, FleetTask
from runner.fleet.task_rows import TASK_COLUMNS, TASK_TABLES, WAITS, task_of

CLAIMED = """
    state = 'running', epoch = epoch + 1, run = COALESCE(resume_run, epoch + 1), resume_run = NULL,
    worker_id = :worker, claim_key = :claim, lease_until = {after:lease}, started_at = {now},
    done_at = NULL
"""

OPEN = "EXISTS (SELECT 1 FROM jobs WHERE jobs.id = :job AND paused IS NULL)"
UNLIMITED = OPEN.replace("paused IS NULL", "paused IS NULL AND max_running IS NULL")

NEXT = f"""WITH due AS MATERIALIZED (
        SELECT id AS due_id FROM task_executions
        WHERE job_id = :job AND {WAITS} AND not_before <= {{now}} AND OPEN
        ORDER BY not_before, id LIMIT 1 {{skip_locked}}
    )
    UPDATE task_executions SET {CLAIMED} FROM due
    WHERE task_executions.id = due.due_id RETURNING id"""

NAMED = f"""UPDATE task_executions SET
        lost = CASE WHEN state = 'running' THEN lost + 1 ELSE lost END, {CLAIMED}
    WHERE id = :task AND job_id = :job AND (
        ({WAITS} AND not_before <= {{now}})
        OR (state = 'running' AND lease_until < {{now}} AND lost + 1 < :limit)
    ) AND OPEN
    RETURNING id"""


class TaskClaims:
    """See the module. All raise DatabaseAwayError."""

    def __init__(self, connection: SqlConnection) -> None:
        self._sql = connection

    def claim_next(self, job: int, worker: int, claim: str, lease: float) -> FleetTask | None:
        """Take the task that has been due longest; None if none is, the job is paused, or as many
        of it run as may.

        ``claim`` names this very call: made again after a lost answer, it gives the same task.
        """
        values = {"job": job, "worker": worker, "claim": claim, "lease": lease}
        return self._claimed(NEXT, job, values)

    def claim(self, task: int, job: int, worker: int, claim: str, lease: float) -> FleetTask | None:
        """Take this task if it is due, or its holder's lease is over; None: not now."""
        values = {"job": job, "worker": worker, "claim": claim, "lease": lease}
        return self._claimed(NAMED, job, {**values, "task": task, "limit": LOST_LIMIT}, task)

    def _claimed(
        self, statement: str, job: int, values: dict[str, Any], task: int = 0
    ) -> FleetTask | None:
        rows = self._sql.query(statement.replace("OPEN", UNLIMITED), values)
        if rows:
            return self.find(rows[0][0])
        limited = "SELECT 1 FROM jobs WHERE id = :job AND max_running IS NOT NULL"
        if not self._sql.query(limited, {"job": job}):
            return None
        with self._sql.transaction():
            # A statement of its own: what it waits for must be seen by the next one.
            (row,) = self._sql.query(
                "SELECT max_running FROM jobs WHERE id = :job {lock_row}", {"job": job}
            ) or [(0,)]
            if row[0] is not None and self._running(job, task) >= row[0]:
                return None
            rows = self._sql.query(statement.replace("OPEN", OPEN), values)
            return self.find(rows[0][0]) if rows else None

    def _running(self, job: int, besides: int) -> int:
        """How many tasks of a job are held, this one left out."""
        rows = self._sql.query(
            """SELECT count(*) FROM task_executions
            WHERE job_id = :job AND state = 'running' AND id <> :besides""",
            {"job": job, "besides": besides},
        )
        return int(rows[0][0])

    def at_limit(self, job: int) -> bool:
        """Whether as many tasks of a job run as may."""
        rows = self._sql.query(
            """SELECT 1 FROM jobs WHERE id = :job AND max_running IS NOT NULL AND max_running <=
                (SELECT count(*) FROM task_executions WHERE job_id = :job AND state = 'running')""",
            {"job": job},
        )
        return bool(rows)

    def held(self, worker: int, claim: str) -> FleetTask | None:
        """What a claim whose answer was lost has taken, if anything."""
        rows = self._sql.query(
            f"""SELECT {TASK_COLUMNS} FROM {TASK_TABLES}
            WHERE t.worker_id = :worker AND t.claim_key = :claim AND t.state = 'running'""",
            {"worker": worker, "claim": claim},
        )
        return task_of(rows[0]) if rows else None

    def find(self, task: int) -> FleetTask | None:
        """A task by its id."""
        rows = self._sql.query(
            f"SELECT {TASK_COLUMNS} FROM {TASK_TABLES} WHERE t.id = :task", {"task": task}
        )
        return task_of(rows[0]) if rows else None
