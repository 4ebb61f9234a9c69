"""What a job has cost so far: the price of each machine, for as long as its workers were heard of.

Pure. What isn't known is never guessed: it is left out, and counted.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from runner.fleet.records import MachineRecord, WorkerRecord

HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class JobCost:
    """``dollars`` until now, None where no price is known; ``a_task``: of each task that is done,
    None where none is. ``unpriced``: workers on machines whose price isn't known; ``unheard``:
    machines none of whose workers was ever heard of. Neither is in the dollars."""

    dollars: float | None
    a_task: float | None
    unpriced: int = 0
    unheard: int = 0

    @property
    def at_least(self) -> bool:
        """Whether the dollars are not all."""
        return bool(self.unpriced or self.unheard)


def cost_of(
    machines: Sequence[MachineRecord],
    workers: Sequence[WorkerRecord],
    done: int,
    now: float,
    silent: float,
) -> JobCost:
    """Of a job whose ``done`` tasks are done. A machine counts from its launch until its last
    worker stopped, or was last heard of, if it is silent for so many seconds."""
    own: defaultdict[str, list[WorkerRecord]] = defaultdict(list)
    for worker in workers:
        own[worker.name.rpartition("-")[0]].append(worker)
    dollars: float | None = None
    unpriced, unheard = len(workers), 0
    for machine in machines:
        there = own.get(machine.name, [])
        if not there:
            unheard += 1
        elif machine.price is not None:
            unpriced -= len(there)
            ends = max(_end(worker, now, silent) for worker in there)
            spent = machine.price * max(0.0, ends - machine.launched_at) / HOUR
            dollars = (dollars or 0.0) + spent
    a_task = dollars / done if dollars is not None and done else None
    return JobCost(dollars, a_task, unpriced, unheard)


def _end(worker: WorkerRecord, now: float, silent: float) -> float:
    if worker.stopped_at is not None:
        return worker.stopped_at
    heard = worker.beat_at if worker.beat_at is not None else now
    return heard if now - heard > silent else now


def cost_words(cost: JobCost) -> str:
    """A line for people."""
    left_out = [
        f"{count} {what}{'s' if count != 1 else ''} {why}"
        for count, what, why in (
            (cost.unpriced, "worker", "on machines whose price isn't known"),
            (cost.unheard, "machine", "that no worker has been heard of"),
        )
        if count
    ]
    without = f"; without {' and '.join(left_out)}" if left_out else ""
    if cost.dollars is None:
        return f"Cost: not known{without}"
    each = "" if cost.a_task is None else f", {_dollars(cost.a_task)} a task"
    return f"Cost: {'at least ' if cost.at_least else ''}{_dollars(cost.dollars)}{each}{without}"


def _dollars(amount: float) -> str:
    """To the cent, or, of less than a dollar, with two digits that count: $0.000071."""
    if amount == 0 or amount >= 1:
        return f"${amount:.2f}"
    return f"${amount:.{1 - math.floor(math.log10(amount))}f}"
