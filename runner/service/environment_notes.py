"""What a person is told where a queue's jobs would go on with other variables than so far.

Names only: values never show. What the variables were is kept as marks, in the queue's database.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from runner.core.run_mode import RunMode
from runner.service.environment import differing, marks, read_marks
from runner.service.queue_repository import QueueRepository
from runner.store.database import Database

ENVIRONMENT = "environment"
"""The key of ``meta`` under which it is noted what the environment was, as marks."""

NAMED = 10
"""Variables that are named when they differ; the others are counted."""


def compare_environment(
    repository: QueueRepository,
    queue_id: str,
    environment: Mapping[str, str],
    again: RunMode,
    say: Callable[[str], None],
) -> None:
    """Say which variables aren't those that jobs have run with so far, and note these."""
    entry = repository.find(queue_id)
    if entry.queue is None or (entry.ended and not again.mends):
        return
    before = read_marks(entry.meta.get(ENVIRONMENT))
    now = marks(environment, entry.queue.run_id)
    if now == before:
        return
    if before is not None and entry.queue.started_at is not None:
        names = differing(before, now)
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        say(
            f"the environment differs from that of the run so far: {', '.join(names[:NAMED])}"
            f"{more}; jobs that start now get what it is now"
        )
    database = Database(repository.queue_paths(queue_id).database)
    try:
        database.write_meta({ENVIRONMENT: json.dumps(now)})
    finally:
        database.close()
