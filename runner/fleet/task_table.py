"""The tasks of the fleet in its database: enqueued, claimed, extended, ended, reaped.

The database is the truth about every task, and its clock the only one that leases go by. Whoever
holds a task is its epoch, which grows with each claim: every statement about a running task names
it, and changes nothing when the task is held by another. Each method is one transaction, and may be
called again after a DatabaseAwayError.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from runner.fleet.records import (
    LOST_LIMIT,
    FleetTask,
    Metrics,
    TaskItem,
    TaskState,
)
from runner.fleet.task_claims import TaskClaims
from runner.fleet.task_rows import TASK_COLUMNS, TASK_TABLES, WAITS, metric_values, task_of


@dataclass(frozen=True, slots=True)
class Enqueued:
    """What an enqueue did: ``known`` were there before, and stay as they are."""

    new: int
    known: int


class TaskTable(TaskClaims):
    """See the module."""

    # -- enqueue -----------------------------------------------------------------------------

    def enqueue(self, job: int, items: Iterable[TaskItem]) -> Enqueued:
        """Add those that are not there; a cancelled one is pending again."""
        by_key = {item.key: item for item in items}
        rows = (
            (item.key, json.dumps(dict(item.params), ensure_ascii=False), item.w_id, item.i_id)
            for item in by_key.values()
        )
        columns = {"key": "text", "params": "text", "w_id": "text", "i_id": "text"}
        with self._sql.transaction():
            self._sql.load("incoming", columns, rows)
            if any(item.w_id is not None for item in by_key.values()):
                self._sql.change(
                    """INSERT INTO volumes (w_id, i_id)
                    SELECT w_id, i_id FROM incoming WHERE w_id IS NOT NULL ORDER BY w_id, i_id
                    ON CONFLICT (w_id, i_id) DO NOTHING"""
                )
            new = self._sql.change(
                """INSERT INTO task_executions
                    (job_id, task_key, volume_id, params, state, not_before, enqueued_at)
                SELECT :job, i.key, v.id, i.params, 'pending', {now}, {now}
                FROM incoming AS i LEFT JOIN volumes AS v ON v.w_id = i.w_id AND v.i_id = i.i_id
                WHERE true
                ON CONFLICT (job_id, task_key) DO UPDATE SET
                    state = 'pending', not_before = excluded.not_before, attempts = 0, lost = 0,
                    resume_run = NULL, sent_at = NULL, error = NULL
                WHERE task_executions.state = 'cancelled'""",
                {"job": job},
            )
        return Enqueued(new, len(by_key) - new)

    # -- while it runs -----------------------------------------------------------------------

    def extend(self, task: FleetTask, lease: float) -> bool:
        """Hold it for ``lease`` seconds from now. False: it is held no more, and never will be."""
        return bool(
            self._sql.change(
                """UPDATE task_executions SET lease_until = {after:lease}
                WHERE id = :task AND epoch = :epoch AND state = 'running'
                  AND lease_until > {now}""",
                {"task": task.id, "epoch": task.epoch, "lease": lease},
            )
        )

    def note_etag(self, task: FleetTask, etag: str) -> bool:
        """The version of the manifest that it runs with. False: another holds it."""
        values = {"task": task.id, "epoch": task.epoch, "etag": etag}
        self._sql.change(
            """UPDATE volumes SET s3_etag = :etag WHERE id =
                (SELECT volume_id FROM task_executions WHERE id = :task)""",
            {"task": task.id, "etag": etag},
        )
        return bool(
            self._sql.change(
                """UPDATE task_executions SET s3_etag = :etag
                WHERE id = :task AND epoch = :epoch AND state = 'running'""",
                values,
            )
        )

    # -- ends --------------------------------------------------------------------------------

    def finish(self, task: FleetTask, metrics: Metrics) -> bool:
        """It is done. False: another holds it."""
        return self._end(
            task,
            TaskState.DONE,
            """lost = 0, error = NULL, total_images = :images, nb_errors = :errors,
            total_duration_ms = :duration, avg_duration_per_page_ms = :per_page,
            metrics = :metrics""",
            metric_values(metrics),
        )

    def retry_later(self, task: FleetTask, reason: str, delay: float, metrics: Metrics) -> bool:
        """A counted failure, to be tried again in ``delay`` seconds. False: another holds it."""
        return self._end(
            task,
            TaskState.RETRYABLE_FAILED,
            """lost = 0, attempts = attempts + 1, not_before = {after:delay}, error = :reason,
            sent_at = NULL, total_images = :images, nb_errors = :errors,
            total_duration_ms = :duration""",
            {"delay": delay, "reason": reason, **metric_values(metrics)},
        )

    def fail(self, task: FleetTask, reason: str, metrics: Metrics, *, counted: bool = True) -> bool:
        """It has failed for good. False: another holds it."""
        return self._end(
            task,
            TaskState.TERMINAL_FAILED,
            """lost = 0, attempts = attempts + :counted, error = :reason, dead_epoch = epoch,
            dead_sent_at = NULL, total_images = :images, nb_errors = :errors,
            total_duration_ms = :duration""",
            {"counted": int(counted), "reason": reason, **metric_values(metrics)},
        )

    def give_back(self, task: FleetTask, reason: str, *, resume: bool) -> bool:
        """It was interrupted: due at once, and nothing is counted. False: another holds it.

        ``resume``: the next holder goes on in the same run. Nobody writes to it any more.
        """
        return self._end(
            task,
            TaskState.PENDING,
            "lost = 0, not_before = {now}, error = :reason, resume_run = :resume, sent_at = NULL",
            {"reason": reason, "resume": task.run if resume else None},
        )

    def _end(self, task: FleetTask, state: TaskState, change: str, values: dict[str, Any]) -> bool:
        named = {"task": task.id, "epoch": task.epoch, "state": state.value}
        changed = self._sql.change(
            f"""UPDATE task_executions SET state = :state, done_at = {{now}}, lease_until = NULL,
            {change} WHERE id = :task AND epoch = :epoch AND state = 'running'""",
            _used(change, values) | named,
        )
        if changed:
            return True
        # The answer to the same statement may have been lost.
        return bool(
            self._sql.query(
                """SELECT 1 FROM task_executions
                WHERE id = :task AND epoch = :epoch AND state = :state AND lease_until IS NULL""",
                named,
            )
        )

    # -- what others have left behind --------------------------------------------------------

    def reap(self, job: int) -> list[FleetTask]:
        """Take tasks whose lease is over from their holders; returns those, as they are now.

        The last of LOST_LIMIT in a row fails for good. A lost one begins a new run: its former
        holder may still write to the old one.
        """
        with self._sql.transaction():
            rows = self._sql.query(
                f"""UPDATE task_executions SET
                    lost = lost + 1, lease_until = NULL, done_at = {{now}}, not_before = {{now}},
                    sent_at = NULL,
                    state = CASE WHEN lost + 1 >= :limit THEN 'terminal_failed' ELSE 'pending' END,
                    error = CASE WHEN lost + 1 >= :limit THEN 'lost {LOST_LIMIT} workers'
                        ELSE 'its worker was lost' END,
                    dead_epoch = CASE WHEN lost + 1 >= :limit THEN epoch END, dead_sent_at = NULL
                WHERE job_id = :job AND state = 'running' AND lease_until < {{now}}
                RETURNING id""",
                {"job": job, "limit": LOST_LIMIT},
            )
            return [found for row in rows if (found := self.find(row[0])) is not None]

    def unsent(self, job: int, limit: int, older: float | None = None) -> list[FleetTask]:
        """Due tasks of which no message was ever accepted, or else none for ``older`` seconds."""
        # Not one condition for both: the index holds those that were never sent, and no others.
        which = "t.sent_at IS NULL" if older is None else "t.sent_at < {after:older}"
        rows = self._sql.query(
            f"""SELECT {TASK_COLUMNS} FROM {TASK_TABLES}
            WHERE t.job_id = :job AND t.{WAITS} AND {which} AND t.not_before <= {{now}}
            ORDER BY t.id LIMIT :limit""",
            {"job": job, "limit": limit} | ({} if older is None else {"older": -older}),
        )
        return [task_of(row) for row in rows]

    def note_sent(self, tasks: Sequence[int]) -> None:
        """A message for each of these was accepted."""
        self._mark("sent_at", tasks)

    def missing_dead_letters(self, job: int, limit: int) -> list[FleetTask]:
        """Tasks that have failed for good, and are not in the dead-letter queue."""
        rows = self._sql.query(
            f"""SELECT {TASK_COLUMNS} FROM {TASK_TABLES}
            WHERE t.job_id = :job AND t.state = 'terminal_failed' AND t.dead_sent_at IS NULL
            ORDER BY t.id LIMIT :limit""",
            {"job": job, "limit": limit},
        )
        return [task_of(row) for row in rows]

    def note_dead_letters(self, tasks: Sequence[int]) -> None:
        """A copy of each is in the dead-letter queue."""
        self._mark("dead_sent_at", tasks)

    def _mark(self, column: str, tasks: Sequence[int]) -> None:
        for start in range(0, len(tasks), 500):
            some = tasks[start : start + 500]
            named = {f"id{at}": task for at, task in enumerate(some)}
            places = ", ".join(f":{name}" for name in named)
            self._sql.change(
                f"UPDATE task_executions SET {column} = {{now}} WHERE id IN ({places})", named
            )

    # -- what people do ----------------------------------------------------------------------

    def redrive(self, job: int, limit: int, keys: Sequence[str] = ()) -> list[int]:
        """Failed tasks are pending again, their counts fresh; returns their ids."""
        return self._reset(
            """job_id = :job AND state = 'terminal_failed'""", {"job": job}, limit, keys
        )

    def revive(self, task: int, dead_epoch: int) -> bool:
        """The same for one task, if its failure is the one that a message tells of."""
        values = {"task": task, "epoch": dead_epoch}
        where = "id = :task AND state = 'terminal_failed' AND dead_epoch = :epoch"
        return bool(self._reset(where, values, 1))

    def _reset(
        self, where: str, values: dict[str, Any], limit: int, keys: Sequence[str] = ()
    ) -> list[int]:
        some, named = _named(keys)
        rows = self._sql.query(
            f"""UPDATE task_executions SET state = 'pending', attempts = 0, lost = 0,
                not_before = {{now}}, sent_at = NULL, dead_epoch = NULL, resume_run = NULL
            WHERE id IN (SELECT id FROM task_executions WHERE {where}{some}
                ORDER BY id LIMIT :limit)
            RETURNING id""",
            {**values, **named, "limit": limit},
        )
        return [row[0] for row in rows]

    def reopen(self, task: FleetTask) -> bool:
        """What was done with another manifest is pending again."""
        return bool(
            self._reset(
                "id = :task AND state = 'done' AND s3_etag = :etag",
                {"task": task.id, "etag": task.etag},
                1,
            )
        )

    def cancel(self, job: int, keys: Sequence[str] = (), *, running: bool = False) -> int:
        """Tasks that wait (all of them, or these) are cancelled; how many.

        ``running``: those that run, too. Their workers end them when they extend their leases.
        """
        some, named = _named(keys)
        which = f"({WAITS} OR state = 'running')" if running else WAITS
        return self._sql.change(
            f"""UPDATE task_executions SET state = 'cancelled', done_at = {{now}},
                lease_until = NULL
            WHERE job_id = :job AND {which}{some}""",
            {"job": job, **named},
        )

    # -- looking -----------------------------------------------------------------------------

    def named(self, job: int, key: str) -> FleetTask | None:
        """A task by what it is for."""
        rows = self._sql.query(
            f"""SELECT {TASK_COLUMNS} FROM {TASK_TABLES}
            WHERE t.job_id = :job AND t.task_key = :key""",
            {"job": job, "key": key},
        )
        return task_of(rows[0]) if rows else None


def _named(keys: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """A condition that names tasks, if any are named, and its values."""
    values = {f"key{at}": key for at, key in enumerate(keys)}
    some = f" AND task_key IN ({', '.join(f':{name}' for name in values)})" if keys else ""
    return some, values


def _used(change: str, values: dict[str, Any]) -> dict[str, Any]:
    """The values that a statement names."""
    return {
        name: value
        for name, value in values.items()
        if f":{name}" in change or f"after:{name}" in change
    }
