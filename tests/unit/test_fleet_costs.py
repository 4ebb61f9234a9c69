"""What a job has cost: only what is known, and what isn't is told."""

from __future__ import annotations

import pytest

from runner.fleet.machine_costs import JobCost, cost_of, cost_words
from runner.fleet.records import MachineRecord, WorkerRecord

SILENT = 300.0


def machine(name: str, price: float | None, launched: float = 0.0) -> MachineRecord:
    return MachineRecord(name, f"i-{name}", price, launched)


def worker(name: str, beat: float, stopped: float | None = None) -> WorkerRecord:
    return WorkerRecord(1, name, 1, "h", 1, "v", 100.0, beat, stopped, None)


def test_a_machine_counts_from_its_launch_to_its_last_worker() -> None:
    """Two workers of one machine would cost twice, or the time of its boot nothing."""
    machines = [machine("m-1", 2.0), machine("m-11", 1.0, 1800.0)]
    workers = [
        worker("m-1-1", 3600.0, 3600.0),
        worker("m-1-2", 7190.0),
        worker("m-11-1", 3600.0, 3600.0),
    ]
    assert cost_of(machines, workers, 9, 7200.0, SILENT) == JobCost(4.5, 0.5)


def test_a_silent_worker_costs_until_it_was_heard_of() -> None:
    """A machine that died last week would go on costing."""
    found = cost_of([machine("m", 1.0)], [worker("m-1", 3600.0)], 0, 1e6, SILENT)
    assert found == JobCost(1.0, None)


def test_what_is_not_known_is_told() -> None:
    """A price would be guessed, or one's own machines pass for free."""
    machines = [machine("m", 1.0), machine("n", None), machine("o", 1.0)]
    workers = [worker("m-1", 3600.0), worker("n-1", 3600.0), worker("laptop-77-1", 3600.0)]
    found = cost_of(machines, workers, 100_000, 3600.0, SILENT)
    assert found == JobCost(1.0, 1e-5, 2, 1)
    assert cost_words(found) == (
        "Cost: at least $1.00, $0.000010 a task; without 2 workers on machines whose price isn't "
        "known and 1 machine that no worker has been heard of"
    )
    unknown = cost_of([], [worker("laptop-1", 1.0)], 5, 2.0, SILENT)
    assert cost_words(unknown) == (
        "Cost: not known; without 1 worker on machines whose price isn't known"
    )


@pytest.mark.parametrize(
    ("dollars", "told"), [(0.0, "$0.00"), (0.0123, "$0.012"), (0.5, "$0.50"), (1234.5, "$1234.50")]
)
def test_amounts_have_digits_that_count(dollars: float, told: str) -> None:
    """A task would cost $0.00."""
    assert cost_words(JobCost(dollars, None)) == f"Cost: {told}"
