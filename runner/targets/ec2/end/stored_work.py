"""What of a queue's work is in S3, before its machine is ended: told from the stored state."""

from __future__ import annotations

from dataclasses import dataclass

from runner.core.states import ENDED
from runner.errors import RunnerError
from runner.results.layout import Layout
from runner.results.stored_queue import read_queue
from runner.results.stores import open_store
from runner.targets.ec2.observe.machines import age


@dataclass(frozen=True, slots=True)
class StoredWork:
    """``problem``: why nothing can be told. ``unfinished``: jobs; ``updated``: of the state."""

    status: str = ""
    unfinished: int = 0
    total: int = 0
    updated: float | None = None
    problem: str | None = None

    def describe(self, now: float) -> str:
        """For people, in a line."""
        if self.problem is not None:
            return f"what is stored can't be told: {self.problem}"
        old = "of unknown age" if self.updated is None else f"{age(now - self.updated)} old"
        if not self.unfinished:
            return f"the queue is {self.status}; its state in S3 is {old}"
        return (
            f"unfinished jobs: {self.unfinished} of {self.total}; the state in S3 is {old}: "
            "what was made since is lost, but for checkpoints"
        )


def stored_work(where: str | None) -> StoredWork:
    """What the store at ``s3://bucket/prefix`` has. Blocks; raises nothing."""
    if not where:
        return StoredWork(problem="the machine doesn't say where its results are")
    try:
        store = open_store(where)
        try:
            stored = read_queue(store, Layout())
        finally:
            store.close()
    except RunnerError as error:
        return StoredWork(problem=str(error))
    state = stored.state
    unfinished = sum(job.status not in ENDED for job in state.jobs)
    return StoredWork(stored.status.value, unfinished, len(state.jobs), state.updated_at)
