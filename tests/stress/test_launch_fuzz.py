"""Launches on a bad day: whatever happens to commands and to AWS, one queue has one machine.

Real commands of two people, cut, suspended and lied to at drawn calls, against moto behind a rude
proxy. Checked are the machines that there are, not what anybody says of them; and then that what is
said agrees. ``ROUND=N`` plays the round alone whose seed a failure has told.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from account import Account, account
from fuzz_clock import Clock
from fuzz_cloud import FuzzCloud
from fuzz_people import Launcher
from fuzz_rounds import Round
from fuzz_truth import Truth

ROUNDS = 50
"""Of each part; the parts run side by side."""

PARTS = 4

ENOUGH = 30
"""Rounds in which a fault of the product is found at the latest."""

NO_GUARD = """
from runner.targets.ec2.bucket import LaunchBucket
from runner.targets.ec2.launch.launch_guard import LaunchGuard

def put(self, key, value, etag):
    self.put_json(key, value)
    return self.stored(key).etag

LaunchGuard.check = lambda self, *given, **named: None
LaunchBucket.swap_json = put
"""


@pytest.fixture(scope="module")
def aws() -> Iterator[Account]:
    """moto's, with a server of its own."""
    with account() as made:
        yield made


@contextmanager
def rounds(aws: Account, folder: Path, fault: str = "") -> Iterator[Callable[[int], Truth]]:
    """What plays the round of a seed; ``fault``: what is done to the product before."""
    clock = Clock(folder / "clock")
    cloud = FuzzCloud(aws.endpoint.port, clock)
    launcher = Launcher(folder / "clock", fault)

    def play(seed: int) -> Truth:
        made = Round(seed, cloud, aws.endpoint, launcher, folder / str(seed))
        try:
            made.play()
        finally:
            made.close()
        return made.truth

    try:
        yield play
    finally:
        launcher.close()
        cloud.close()
        clock.close()


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_one_queue_one_machine_the_right_machine(
    tmp_path: Path, aws: Account, part: int, scaled: Callable[[int], int], seed: int
) -> None:
    """A second machine would cost money for nobody, or somebody's running work be ended."""
    draw = random.Random(seed)
    seeds = [draw.randrange(1 << 32) for _ in range(scaled(ROUNDS))]
    if "ROUND" in os.environ:
        seeds = [int(os.environ["ROUND"])]
    with rounds(aws, tmp_path) as play:
        for own in seeds:
            truth = play(own)
            if truth.wrongs:
                print("\n".join(truth.story))
            assert truth.wrongs == [], f"again with: ROUND={own}"


@pytest.mark.slow
def test_a_launch_without_its_guards_is_found_out(tmp_path: Path, aws: Account, seed: int) -> None:
    """Rounds that find nothing would prove nothing."""
    draw = random.Random(seed)
    with rounds(aws, tmp_path, NO_GUARD) as play:
        found: list[str] = []
        for _ in range(ENOUGH):
            found += play(draw.randrange(1 << 32)).wrongs
            if any("two machines have" in wrong for wrong in found):
                return
    raise AssertionError(f"it isn't found: {found}")
