"""The jobs that were added to a run, as its store has them: there before a state tells of them.

Nothing of it is trusted when it is read.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from runner.core.state_file import StateFile
from runner.errors import StateError
from runner.model.queue import AddedJob
from runner.model.records import read
from runner.results.escape import shown
from runner.results.layout import Layout
from runner.results.store import ResultStore


@dataclass(frozen=True, slots=True)
class _Line:
    job: str
    parent: str | None = None


def put_added(store: ResultStore, layout: Layout, run_id: str, added: Sequence[AddedJob]) -> None:
    """Store all that was added so far. Raises StoreError."""
    lines = [
        json.dumps({"job": each.text, **({"parent": each.parent} if each.parent else {})}) + "\n"
        for each in added
    ]
    store.put_bytes(layout.added_key(run_id), "".join(lines).encode())


def read_added(store: ResultStore, layout: Layout, state: StateFile) -> list[AddedJob]:
    """What was added to the run by the time of its state; what was asked for also since.

    A job that is to expand again leaves its jobs again. Raises StateError, StoreError.
    """
    key = layout.added_key(state.run_id)
    raw = store.get_bytes(key)
    if raw is None:
        return []
    name = f"{key} in {shown(store.describe())}"
    known = {job.job_id for job in state.jobs}
    found = []
    for number, line in enumerate(raw.splitlines(), 1):
        try:
            told = read(_Line, json.loads(line), f"{name}: line {number}")
            job_id = json.loads(told.job)["job_id"]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise StateError(f"{name}: line {number} is no job that was added") from None
        if job_id in known or told.parent is None:
            found.append(AddedJob(told.job, told.parent))
    return found
