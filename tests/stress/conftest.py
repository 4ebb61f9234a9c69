"""What the long tests share: how much of them is run, and with which seed.

``SCALE`` (1 = all of it) says how much, ``SEED`` which of it; both are printed, so that a failure
can be had again.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

# The harness of the kill matrix.
sys.path.insert(0, str(Path(__file__).parent.parent / "system"))

SCALE = float(os.environ.get("SCALE", "1"))
SEED = int(os.environ.get("SEED") or random.SystemRandom().randrange(1 << 32))


def pytest_configure(config: pytest.Config) -> None:
    """Every worker process draws from the same seed."""
    os.environ["SEED"] = str(SEED)


def pytest_report_header() -> str:
    """What to set to have this run again."""
    return f"stress: SCALE={SCALE:g} SEED={SEED}"


@pytest.fixture
def scaled() -> Callable[[int], int]:
    """Of so many rounds, how many this run does: at least one."""
    return lambda rounds: max(1, round(rounds * SCALE))


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """This test's own seed: it doesn't change with which other tests are run."""
    found = random.Random(f"{SEED}/{request.node.nodeid}").randrange(1 << 32)
    print(f"SEED={SEED} (this test's own: {found})")
    return found
