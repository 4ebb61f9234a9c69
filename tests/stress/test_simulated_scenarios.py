"""Scenarios of the whole engine in simulated time: a hundred thousand of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hostless import HostlessScenario
from simulation import run_scenario

SCENARIOS = 100_000
CHUNKS = 50
HOSTLESS = 20_000


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_nothing_is_lost_doubled_or_green_without_work(
    chunk: int, scaled: Callable[[int], int], seed: int
) -> None:
    """Some order of kills, failures, boots and requests would lose a job's work, or do it twice."""
    first = seed << 20
    for number in range(first, first + scaled(SCENARIOS // CHUNKS)):
        run_scenario(number)


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_a_driver_that_loses_its_host_goes_on_from_the_store(
    chunk: int, scaled: Callable[[int], int], seed: int
) -> None:
    """Some order of kills and failures would start a job twice, or lose what it did."""
    first = (seed << 20) + chunk * HOSTLESS
    for number in range(first, first + scaled(HOSTLESS // CHUNKS)):
        run_scenario(number, HostlessScenario)
