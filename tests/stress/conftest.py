"""What the long tests share: how much of them is run, and with which seed.

``SCALE`` (1 = all of it) says how much, ``SEED`` which of it; both are printed, so that a failure
can be had again.
"""

from __future__ import annotations

import os
import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import scale
from batch_server.dockerd import IMAGE, DockerDaemon, what_is_missing
from executor_targets import ex, opened_target, patience, shared_executor, target
from scale import SCALE, SEED

__all__ = ["ex", "opened_target", "patience", "shared_executor", "target"]

FOLDER = Path(__file__).parent


def pytest_report_header() -> str:
    """What to set to have this run again."""
    return f"stress: SCALE={SCALE:g} SEED={SEED}"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What is in this folder is long. Of the tests of a file that are marked ``share``, a share is
    chosen."""
    for item in items:
        if FOLDER in item.path.parents:
            item.add_marker("long")
    files = defaultdict[str, list[pytest.Item]](list)
    for item in items:
        if item.get_closest_marker("share"):
            files[str(item.path)].append(item)
    dropped: set[pytest.Item] = set()
    for path, marked in files.items():
        dice = random.Random(f"{SEED}/{path.rpartition('/')[2]}")
        chosen = dice.sample(marked, min(len(marked), scale.scaled(len(marked))))
        dropped |= set(marked) - set(chosen)
    if dropped:
        config.hook.pytest_deselected(items=[item for item in items if item in dropped])
        items[:] = [item for item in items if item not in dropped]


@pytest.fixture
def scaled() -> Callable[[int], int]:
    """Of so many rounds, how many this run does: at least one."""
    return scale.scaled


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """This test's own seed: it doesn't change with which other tests are run."""
    found = random.Random(f"{SEED}/{request.node.nodeid}").randrange(1 << 32)
    print(f"SEED={SEED} (this test's own: {found})")
    return found


@pytest.fixture(scope="module")
def daemon() -> Iterator[DockerDaemon]:
    """A Docker daemon with IMAGE. Where there can be none: skipped, but never in CI."""
    if missing := what_is_missing():
        (pytest.fail if os.environ.get("CI") else pytest.skip)(missing)
    made = DockerDaemon()
    try:
        made.import_image(IMAGE)
        yield made
    finally:
        made.close()
