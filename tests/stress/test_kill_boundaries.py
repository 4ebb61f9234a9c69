"""The runner is SIGKILLed at every step boundary: at each commit, request, signal and rename."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from kill_proof import Expected, check, expected
from kill_queues import brief
from kill_steps import KillAt, Launcher, sweep
from kill_support import World, world
from scale import SEED

KINDS = ("Database.commit", "Spawner.start", "signal_attempt", "write_projection", "link")
"""What a run crosses in any case: a boundary that has got another name would not be tried."""

OFTEN = [f"{when} Database.commit#{n}" for when in ("before", "after") for n in (1, 2, 3)]
"""Boundaries of a recovery."""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Expected:
    """What the queue comes to when nobody kills anything."""
    with world(tmp_path_factory.mktemp("undisturbed") / "w", brief) as quiet:
        return expected(quiet)


@pytest.mark.slow
def test_run_killed_at_every_boundary(tmp_path: Path, undisturbed: Expected) -> None:
    """What `run` has done when it dies, and what it says it has done, would not agree."""

    def story(killed: World, warm: Launcher, kill_at: KillAt) -> bool:
        words = killed.run_words()
        first = warm.start(killed, *words, kill_at=kill_at)
        if not first.killed:
            assert first.wait() == undisturbed.exit_code
            return False
        # The recovery is killed too, somewhere.
        dice = random.Random(f"{SEED}-{kill_at}")
        again = dice.choice([*OFTEN, dice.uniform(0, 0.2)])
        warm.start(killed, *words, kill_at=again).wait()
        last = warm.start(killed, *words)
        assert last.wait() == undisturbed.exit_code, (killed.root / "output").read_text()
        check(killed, undisturbed)
        return True

    crossed = sweep(tmp_path, brief, story)
    wanted = {f"after {name}" for name in KINDS}
    assert wanted <= crossed, f"not crossed: {wanted - crossed}"
