"""The random walk of the scheduler's tests, much longer."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from hypothesis import seed as seeded
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

sys.path.insert(0, str(Path(__file__).parent.parent / "unit"))

import test_core_walk as walk

WALKS = 6000


def test_a_long_walk(scaled: Callable[[int], int], seed: int) -> None:
    """A rare order of events would leave a job undone, run twice, or a queue for ever open."""
    longer = settings(walk.TestWalk.settings, max_examples=scaled(WALKS), database=None)
    run_state_machine_as_test(seeded(seed)(walk.Walk), settings=longer)
