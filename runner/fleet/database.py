"""The fleet's database as a whole: its schema, its jobs, its workers, and the task table.

Owns which address means which database.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import runner
from runner.errors import ConflictError, NotFoundError, UsageError
from runner.fleet.connection import Row, SqlConnection
from runner.fleet.records import (
    FleetJob,
    JobOptions,
    MachineRecord,
    WorkerRecord,
    dump_options,
    parse_options,
)
from runner.fleet.schema_steps import FleetSchema
from runner.fleet.sqlite_connection import SqliteConnection
from runner.fleet.task_news import TaskNews
from runner.fleet.task_rows import moment
from runner.fleet.task_table import TaskTable
from runner.fleet.task_views import TaskViews
from runner.model.messages import quoted

POSTGRES = ("postgresql://", "postgres://")

BUSY = """task_executions AS t
    ON t.job_id = w.job_id AND t.worker_id = w.id AND t.state = 'running'"""
"""Of a worker, what it is busy with."""

JOB_COLUMNS = "id, name, config, options, queue_url, dlq_url, paused, created_at, max_running"


def open_database(address: str, patience: float | None = None) -> FleetDatabase:
    """The database at ``postgresql://…`` or, embedded, in a folder. Nothing is made or asked yet.

    ``patience``: seconds that a server may take for an answer; None: as long as it is connected.
    Raises UsageError for what can be neither.
    """
    if address.startswith(POSTGRES):
        from runner.fleet.iam_login import split_login
        from runner.fleet.postgres_connection import PostgresConnection

        conninfo, login = split_login(address)
        return FleetDatabase(PostgresConnection(conninfo, patience, login), None)
    if not address or "://" in address or "\0" in address:
        what = "a folder, or postgresql://USER@HOST/DATABASE"
        raise UsageError(f"the fleet's database: {quoted(address)} is not {what}")
    folder = Path(address).expanduser().absolute()
    return FleetDatabase(SqliteConnection(folder), folder)


class FleetDatabase(FleetSchema):
    """For one thread; ``another`` is for another one. ``folder``: of the embedded one."""

    def __init__(self, connection: SqlConnection, folder: Path | None) -> None:
        super().__init__(connection)
        self.folder = folder
        self.tasks = TaskTable(connection)
        self.views = TaskViews(connection)
        self.news = TaskNews(connection)

    def another(self) -> FleetDatabase:
        """The same database over a connection of its own."""
        return FleetDatabase(self._sql.another(), self.folder)

    def describe(self) -> str:
        """Where it is, for people."""
        return self._sql.describe()

    def close(self) -> None:
        """Give its connection back."""
        self._sql.close()

    # -- jobs --------------------------------------------------------------------------------

    def create_job(
        self,
        name: str,
        config: str,
        options: JobOptions,
        queue_url: str | None = None,
        dlq_url: str | None = None,
        max_running: int | None = None,
    ) -> FleetJob:
        """A new job. Raises ConflictError if there is one of this name."""
        values = {
            "name": name,
            "config": config,
            "options": dump_options(options),
            "queue": queue_url,
            "dlq": dlq_url,
            "most": max_running,
        }
        made = self._sql.query(
            f"""INSERT INTO jobs
                (name, config, options, queue_url, dlq_url, max_running, created_at, updated_at)
            VALUES (:name, :config, :options, :queue, :dlq, :most, {{now}}, {{now}})
            ON CONFLICT (name) DO NOTHING RETURNING {JOB_COLUMNS}""",
            values,
        )
        if not made:
            raise ConflictError(
                f"there is a job {quoted(name)} already: `jobs update {name}` changes it"
            )
        return _job(made[0])

    def jobs(self) -> list[FleetJob]:
        """All of them, the oldest first."""
        return [_job(row) for row in self._sql.query(f"SELECT {JOB_COLUMNS} FROM jobs ORDER BY id")]

    def job(self, name: str) -> FleetJob:
        """Raises NotFoundError."""
        rows = self._sql.query(f"SELECT {JOB_COLUMNS} FROM jobs WHERE name = :name", {"name": name})
        if not rows:
            raise NotFoundError(f"there is no job {quoted(name)} in {self.describe()}")
        return _job(rows[0])

    def update_job(
        self,
        job: int,
        *,
        config: str | None = None,
        options: JobOptions | None = None,
        max_running: int | None = None,
    ) -> None:
        """Change what is given; tasks that run go on as they began. ``max_running`` 0: no limit."""
        self._sql.change(
            """UPDATE jobs SET config = COALESCE(:config, config),
                options = COALESCE(:options, options),
                max_running = NULLIF(COALESCE(:most, max_running), 0), updated_at = {now}
            WHERE id = :job""",
            {
                "job": job,
                "config": config,
                "options": None if options is None else dump_options(options),
                "most": max_running,
            },
        )

    def replace_config(self, job: FleetJob, config: str) -> bool:
        """The same, if it is still as ``job`` has it; whether it was."""
        values = {"job": job.id, "old": job.config, "new": config}
        return bool(
            self._sql.change(
                """UPDATE jobs SET config = :new, updated_at = {now}
                WHERE id = :job AND config = :old""",
                values,
            )
        )

    def pause(self, job: int, reason: str | None) -> None:
        """Start nothing of it any more, for this reason; None: go on."""
        self._sql.change(
            "UPDATE jobs SET paused = :reason, updated_at = {now} WHERE id = :job",
            {"job": job, "reason": reason},
        )

    def job_of_queue(self, dlq_url: str) -> FleetJob:
        """The job whose dead letters are there. Raises NotFoundError."""
        rows = self._sql.query(
            f"SELECT {JOB_COLUMNS} FROM jobs WHERE dlq_url = :url", {"url": dlq_url}
        )
        if not rows:
            raise NotFoundError(f"no job has its dead letters in {dlq_url}")
        return _job(rows[0])

    def delete_job(self, job: int) -> int:
        """With its tasks and workers; how many tasks there were."""
        values = {"job": job}
        with self._sql.transaction():
            count = self._sql.change("DELETE FROM task_executions WHERE job_id = :job", values)
            self._sql.change("DELETE FROM workers WHERE job_id = :job", values)
            self._sql.change("DELETE FROM drains WHERE job_id = :job", values)
            self._sql.change("DELETE FROM machines WHERE job_id = :job", values)
            self._sql.change("DELETE FROM jobs WHERE id = :job", values)
        return count

    # -- machines ----------------------------------------------------------------------------

    def note_machines(self, job: int, machines: Iterable[MachineRecord]) -> None:
        """Machines that were seen to work for it; of one that is known only its price is news."""
        for each in machines:
            self._sql.change(
                """INSERT INTO machines (job_id, name, instance_id, price_per_hour, launched_at)
                VALUES (:job, :name, :instance, :price, {after:since})
                ON CONFLICT (job_id, name) DO UPDATE SET
                    price_per_hour = COALESCE(excluded.price_per_hour, machines.price_per_hour)""",
                {
                    "job": job,
                    "name": each.name,
                    "instance": each.instance_id,
                    "price": each.price,
                    "since": each.launched_at - self.now(),
                },
            )

    def machines(self, job: int) -> list[MachineRecord]:
        """All that ever were, in order."""
        rows = self._sql.query(
            """SELECT name, instance_id, price_per_hour, launched_at FROM machines
            WHERE job_id = :job ORDER BY launched_at, name""",
            {"job": job},
        )
        return [
            MachineRecord(name, instance, price, moment(began) or 0.0)
            for name, instance, price, began in rows
        ]

    # -- workers -----------------------------------------------------------------------------

    def register(self, job: int, name: str) -> int:
        """A row for this very process; two workers of one machine never share one."""
        values = {
            "job": job,
            "name": name,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "version": runner.__version__,
        }
        rows = self._sql.query(
            """INSERT INTO workers
                (worker_name, job_id, host, pid, version, started_at, last_heartbeat_at)
            VALUES (:name, :job, :host, :pid, :version, {now}, {now}) RETURNING id""",
            values,
        )
        return int(rows[0][0])

    def beat(self, worker: int) -> bool:
        """It lives; whether it is to take no task any more."""
        values = {"worker": worker}
        self._sql.change("UPDATE workers SET last_heartbeat_at = {now} WHERE id = :worker", values)
        return bool(
            self._sql.query(
                """SELECT 1 FROM workers AS w JOIN drains AS d ON d.job_id = w.job_id
                WHERE w.id = :worker AND (d.name = w.worker_name
                    OR d.name || '-' = substr(w.worker_name, 1, length(d.name) + 1)) LIMIT 1""",
                values,
            )
        )

    def drain(self, job: int, name: str) -> None:
        """The worker of this name, and those of the machine of this name, now or later, end what
        they do and take no task any more."""
        self._sql.change(
            """INSERT INTO drains (job_id, name, asked_at) VALUES (:job, :name, {now})
            ON CONFLICT (job_id, name) DO NOTHING""",
            {"job": job, "name": name},
        )

    def draining(self, job: int) -> list[str]:
        """The names that were asked for, in order."""
        rows = self._sql.query(
            "SELECT name FROM drains WHERE job_id = :job ORDER BY name", {"job": job}
        )
        return [str(row[0]) for row in rows]

    def stop_worker(self, worker: int) -> None:
        """It has ended in an orderly way."""
        self._sql.change(
            "UPDATE workers SET stopped_at = {now} WHERE id = :worker", {"worker": worker}
        )

    def is_first_idle(self, job: int, worker: int, silent: float) -> bool:
        """Whether no older worker of the job is idle, those of its own process left out: they cost
        nothing more. One that was silent so long doesn't count."""
        rows = self._sql.query(
            f"""SELECT 1 FROM workers AS w JOIN workers AS me ON me.id = :worker LEFT JOIN {BUSY}
            WHERE w.job_id = :job AND w.id < :worker AND w.stopped_at IS NULL
                AND t.id IS NULL AND w.last_heartbeat_at > {{after:silent}}
                AND (w.host <> me.host OR w.pid <> me.pid) LIMIT 1""",
            {"job": job, "worker": worker, "silent": -silent},
        )
        return not rows

    def workers(self, job: int | None = None) -> list[WorkerRecord]:
        """Those of a job, or all; the newest last."""
        some = "" if job is None else "WHERE w.job_id = :job"
        values: Mapping[str, Any] = {} if job is None else {"job": job}
        rows = self._sql.query(
            f"""SELECT w.id, w.worker_name, w.job_id, w.host, w.pid, w.version, w.started_at,
                w.last_heartbeat_at, w.stopped_at, t.id, t.task_key
            FROM workers AS w LEFT JOIN {BUSY} {some}
            ORDER BY w.id""",
            values,
        )
        return [_worker(row) for row in rows]

    def now(self) -> float:
        """The database's own clock, which all of its times are of."""
        found = moment(self._sql.query("SELECT {now}")[0][0])
        assert found is not None
        return found


def _job(row: Row) -> FleetJob:
    id, name, config, options, queue_url, dlq_url, paused, created, most = row
    found = parse_options(options, name)
    return FleetJob(id, name, config, found, queue_url, dlq_url, paused, moment(created), most)


def _worker(row: Row) -> WorkerRecord:
    id, name, job, host, pid, version, started, beat, stopped, task, key = row
    times = (moment(started), moment(beat), moment(stopped))
    return WorkerRecord(id, name, job, host, pid, version, *times, task, key)
