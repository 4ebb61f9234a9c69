"""What has become of tasks, for a client that waits for many of them: few statements for all.

Ends are found by when they were, along an index. A row is seen only when it is committed, which may
be a moment after the time it holds, so a client asks for some seconds more than it has to, and
``ended_among`` finds what was missed all the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from runner.errors import RecordError
from runner.fleet.connection import Row, SqlConnection
from runner.fleet.records import TaskState
from runner.fleet.task_outcome import TaskOutcome, parse_outcome

AT_ONCE = 500
"""Tasks that one statement names."""

_COLUMNS = "task_key, state, epoch, run, error, metrics"
_ENDED = "state IN ('done', 'terminal_failed', 'cancelled')"


@dataclass(frozen=True, slots=True)
class EndedTask:
    """A task that is over. ``outcome``: of one that is done, if its job keeps outcomes; None if it
    can't be read, and then ``error`` says why."""

    key: str
    state: TaskState
    epoch: int
    run: int
    error: str | None
    outcome: TaskOutcome | None


class TaskNews:
    """All raise DatabaseAwayError."""

    def __init__(self, connection: SqlConnection) -> None:
        self._sql = connection

    def ended_within(self, job: int, seconds: float) -> list[EndedTask]:
        """Those that ended in the last so many seconds, in that order."""
        rows = self._sql.query(
            f"""SELECT {_COLUMNS} FROM task_executions
            WHERE job_id = :job AND done_at > {{after:seconds}} AND {_ENDED} ORDER BY done_at""",
            {"job": job, "seconds": -seconds},
        )
        return [_ended(row) for row in rows]

    def ended_among(self, job: int, keys: Sequence[str]) -> list[EndedTask]:
        """Those of these tasks that are over."""
        return [_ended(row) for row in self._named(_COLUMNS, _ENDED, job, keys)]

    def missing_among(self, job: int, keys: Sequence[str]) -> list[str]:
        """Those of these tasks that are not there: their job was deleted."""
        there = {row[0] for row in self._named("task_key", "true", job, keys)}
        return [key for key in keys if key not in there]

    def _named(self, columns: str, which: str, job: int, keys: Sequence[str]) -> Iterator[Row]:
        for start in range(0, len(keys), AT_ONCE):
            named = {f"key{at}": key for at, key in enumerate(keys[start : start + AT_ONCE])}
            yield from self._sql.query(
                f"""SELECT {columns} FROM task_executions WHERE job_id = :job AND {which}
                AND task_key IN ({", ".join(f":{name}" for name in named)})""",
                {"job": job, **named},
            )

    def running(self, job: int) -> list[str]:
        """The keys of the tasks that run now."""
        rows = self._sql.query(
            "SELECT task_key FROM task_executions WHERE job_id = :job AND state = 'running'",
            {"job": job},
        )
        return [str(row[0]) for row in rows]


def _ended(row: Row) -> EndedTask:
    key, state, epoch, run, error, metrics = row
    known = TaskState(state)
    outcome = None
    if known is TaskState.DONE:
        try:
            outcome = parse_outcome(metrics, f"the metrics of task {key}")
        except RecordError as unreadable:
            error = str(unreadable)
    return EndedTask(key, known, epoch, run, error, outcome)
