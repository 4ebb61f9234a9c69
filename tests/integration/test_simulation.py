"""A thousand scenarios of the whole engine in simulated time; ``make stress`` runs more of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hostless import HostlessScenario
from simulation import run_scenario

CHUNKS = 20
OF_EACH = 50


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_nothing_is_lost_doubled_or_green_without_work(chunk: int) -> None:
    """Some order of kills, failures, boots and requests would lose a job's work, or do it twice."""
    for seed in range(chunk * OF_EACH, (chunk + 1) * OF_EACH):
        run_scenario(seed)


def test_a_seed_tells_the_same_scenario_in_another_process() -> None:
    """A failure that can't be had again can't be mended."""
    tests = Path(__file__).parent.parent
    code = f"""
import sys
sys.path[:0] = [{str(tests)!r}]
from hostless import HostlessScenario
from simulation import run_scenario
print("\\n".join(line for seed in range(9) for line in run_scenario(seed)))
"""
    told = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert told[0] == told[1]
    assert "runs" in told[0] and "killed at" in told[0]


def test_a_driver_that_loses_its_host_goes_on_from_the_store() -> None:
    """A coordinator on AWS Batch that is lost would start jobs twice, or lose what they did."""
    for seed in range(20):
        run_scenario(seed, HostlessScenario)
