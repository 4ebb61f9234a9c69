"""Tens of thousands of damaged records at every door for outside data."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from doors import DOORS, Door
from mutations import damaged

from runner.errors import RunnerError

ROUNDS = 4_000


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.name)
def test_damage_is_refused_or_harmless(door: Door, scaled: Callable[[int], int], seed: int) -> None:
    """An error that nobody catches would end a daemon, an upload or a command."""
    draw = random.Random(seed)
    for number in range(scaled(ROUNDS)):
        data = damaged(door.sample, draw)
        try:
            door.enter(data)
        except RunnerError:
            pass
        except Exception as error:
            raise AssertionError(f"input {number}: {data[:2000]!r}") from error
