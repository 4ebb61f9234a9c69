"""Looks at the tasks of a job: the newest, how many are in which state, why some have failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from runner.fleet.connection import Row, SqlConnection
from runner.fleet.records import Backlog, FleetTask, ReportedTask, StateTotals, TaskState
from runner.fleet.task_rows import TASK_COLUMNS, TASK_TABLES, WAITS, moment, task_of

PAGE = 10_000
"""Rows of one look at very many."""

_FAILED = "IN ('terminal_failed', 'retryable_failed')"

_REPORTED = (
    (f"t.state {_FAILED}", "AND t.id < :id", "t.id DESC"),
    (
        f"t.state NOT {_FAILED} AND t.done_at IS NOT NULL",
        "AND (t.done_at, t.id) < (:ended, :id)",
        "t.done_at DESC, t.id DESC",
    ),
    (f"t.state NOT {_FAILED} AND t.done_at IS NULL", "AND t.id < :id", "t.id DESC"),
)
"""Which, those before one, and their order. The second and the third go along an index."""

_NEWEST = (
    ("t.state = 'running'", "t.started_at DESC, t.id DESC"),
    ("t.done_at IS NOT NULL AND t.state <> 'running'", "t.done_at DESC, t.id DESC"),
    ("t.done_at IS NULL AND t.state <> 'running'", "t.id DESC"),
)


class TaskViews:
    """All raise DatabaseAwayError."""

    def __init__(self, connection: SqlConnection) -> None:
        self._sql = connection

    def recent(self, job: int, limit: int, state: TaskState | None = None) -> list[FleetTask]:
        """The newest tasks: those that run, then by when they ended, then those that never began.

        ``state``: only those. Three looks, each along an index: one order of all is of no index.
        """
        found: list[FleetTask] = []
        for condition, order in _NEWEST:
            some = "AND t.state = :state" if state is not None else ""
            values = {"job": job, "limit": limit - len(found)}
            rows = self._sql.query(
                f"""SELECT {TASK_COLUMNS} FROM {TASK_TABLES}
                WHERE t.job_id = :job AND {condition} {some} ORDER BY {order} LIMIT :limit""",
                values | ({"state": state.value} if state is not None else {}),
            )
            found += map(task_of, rows)
            if len(found) >= limit:
                break
        return found

    def done_with_manifest(self, job: int, keys: Sequence[str]) -> list[FleetTask]:
        """Those of the tasks that are done, and with which version of their manifests."""
        found = []
        for start in range(0, len(keys), 500):
            named = {f"key{at}": key for at, key in enumerate(keys[start : start + 500])}
            found += self._sql.query(
                f"""SELECT {TASK_COLUMNS} FROM {TASK_TABLES}
                WHERE t.job_id = :job AND t.state = 'done' AND t.s3_etag IS NOT NULL
                  AND t.task_key IN ({", ".join(f":{name}" for name in named)})""",
                {"job": job, **named},
            )
        return [task_of(row) for row in found]

    def totals(self, job: int) -> list[StateTotals]:
        """What ``jobs stats`` shows: exact, of all tasks, by state."""
        rows = self._sql.query(
            """SELECT state, count(*), COALESCE(sum(total_images), 0),
                COALESCE(sum(nb_errors), 0), COALESCE(sum(total_duration_ms), 0),
                count(total_duration_ms)
            FROM task_executions WHERE job_id = :job GROUP BY state""",
            {"job": job},
        )
        found = {
            TaskState(state): StateTotals(
                TaskState(state), count, int(images), int(errors), float(duration), timed
            )
            for state, count, images, errors, duration, timed in rows
        }
        return [found[state] for state in TaskState if state in found]

    def backlog(self, job: int) -> Backlog:
        """What is left. Counts no more than what an index holds."""
        (row,) = self._sql.query(
            f"""SELECT
                (SELECT count(*) FROM task_executions
                 WHERE job_id = :job AND {WAITS} AND not_before <= {{now}}),
                (SELECT count(*) FROM task_executions WHERE job_id = :job AND {WAITS}
                 AND not_before > {{now}}),
                (SELECT count(*) FROM task_executions WHERE job_id = :job AND state = 'running')""",
            {"job": job},
        )
        return Backlog(*row)

    def done_lately(self, job: int, seconds: float) -> tuple[int, float | None]:
        """How many were done in the last so many seconds, and when the first of them began."""
        (row,) = self._sql.query(
            """SELECT count(*), min(started_at) FROM task_executions
            WHERE job_id = :job AND state = 'done' AND done_at > {after:seconds}""",
            {"job": job, "seconds": -seconds},
        )
        return row[0], moment(row[1])

    def failure_reasons(self, job: int, limit: int) -> list[Row]:
        """State, reason and count of failures, the most frequent first."""
        return self._sql.query(
            """SELECT state, error, count(*) AS count FROM task_executions
            WHERE job_id = :job AND state IN ('terminal_failed', 'retryable_failed')
            GROUP BY state, error ORDER BY count DESC, error LIMIT :limit""",
            {"job": job, "limit": limit},
        )

    def reported(self, job: int, limit: int) -> list[ReportedTask]:
        """As a report has them, at most so many: the failed ones, then those that ended otherwise,
        the newest first, then the rest."""
        found: list[ReportedTask] = []
        for some, before, order in _REPORTED:
            last: Mapping[str, Any] = {}
            while (left := min(PAGE, limit - len(found))) > 0:
                rows = self._sql.query(
                    f"""SELECT t.id, t.done_at, t.task_key, t.state, t.attempts,
                        t.total_duration_ms, w.worker_name, t.error
                    FROM task_executions AS t LEFT JOIN workers AS w ON w.id = t.worker_id
                    WHERE t.job_id = :job AND {some} {before if last else ""}
                    ORDER BY {order} LIMIT :limit""",
                    {"job": job, "limit": left, **last},
                )
                found += [
                    ReportedTask(key, TaskState(state), attempts, moment(ended), took, worker, why)
                    for _, ended, key, state, attempts, took, worker, why in rows
                ]
                if len(rows) < left:
                    break
                last = {"id": rows[-1][0], "ended": rows[-1][1]}
        return found

    def newest_ends(self, job: int, count: int) -> list[TaskState]:
        """How the tasks that ended last have ended, the newest first; only those since the job was
        last changed, paused or resumed."""
        rows = self._sql.query(
            """SELECT state FROM task_executions
            WHERE job_id = :job AND done_at IS NOT NULL
              AND state IN ('done', 'terminal_failed', 'retryable_failed')
              AND done_at > (SELECT updated_at FROM jobs WHERE id = :job)
            ORDER BY done_at DESC LIMIT :count""",
            {"job": job, "count": count},
        )
        return [TaskState(row[0]) for row in rows]
