"""`launch`, `resume` and `terminate` killed at each call to AWS and each write of a record.

Then the same command again, which comes to what it would have come to.
"""

from __future__ import annotations

import random
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from account import Account, Laptop
from ec2_faults import RudeEc2
from kill_steps import Launcher, launcher
from resumed import alive, check_replacement, launch_to_resume

PLACES = ["botocore.client:BaseClient._make_api_call", "os:replace"]
IMPORTED = [
    "boto3",
    "runner.cli.launching.launch",
    "runner.cli.launching.resume",
    "runner.cli.verbs.terminate",
]


def run(warm: Launcher, laptop: Laptop, words: list[str], kill_at: str | None) -> int:
    """The exit code; that of a kill is negative. What it crossed is in ``trace``."""
    order = {
        "argv": words,
        "env": laptop.env,
        "cwd": str(laptop.root),
        **dict.fromkeys(("out", "err"), str(laptop.root / "output")),
        "trace": str(laptop.root / "trace"),
        "kill_at": kill_at,
        "places": PLACES,
    }
    return warm.send(order).wait()


Story = Callable[[Laptop, RudeEc2, Launcher, str | None], bool]
"""Kill there, give the command again, check; whether it was killed."""


def _launch(laptop: Laptop, ec2: RudeEc2, warm: Launcher, kill_at: str | None) -> bool:
    words = laptop.words()[3:]
    killed = run(warm, laptop, words, kill_at) == -signal.SIGKILL
    told = alive(laptop)
    if killed or kill_at is not None:
        again = laptop.launch()
        # A first that ended has told of its machine: the second is refused.
        assert again.returncode == (0 if killed else 2)
    (machine,) = alive(laptop)
    assert told in ([], [machine])
    assert laptop.record()["instance_id"] == machine["InstanceId"]
    assert len({asked["ClientToken"] for asked in ec2.launches}) == 1
    return killed


def _resume(laptop: Laptop, _: RudeEc2, warm: Launcher, kill_at: str | None) -> bool:
    first, words = launch_to_resume(laptop)
    killed = run(warm, laptop, words, kill_at) == -signal.SIGKILL
    if killed:
        assert laptop.command(*words).returncode == 0
    check_replacement(laptop, first)
    return killed


def _terminate(laptop: Laptop, _: RudeEc2, warm: Launcher, kill_at: str | None) -> bool:
    assert laptop.launch().returncode == 0
    assert laptop.queue_id is not None
    words = ["terminate", laptop.queue_id, "--yes"]
    killed = run(warm, laptop, words, kill_at) == -signal.SIGKILL
    if killed:
        assert laptop.command(*words).returncode == 0
    assert alive(laptop) == []
    return killed


@pytest.mark.slow
@pytest.mark.parametrize("story", [_launch, _resume, _terminate])
def test_a_verb_that_was_cut_is_given_again(
    story: Story, aws: Account, tmp_path: Path, scaled: Callable[[int], int], seed: int
) -> None:
    """One of its instants would leave a second machine, none, or another than was asked for."""
    with launcher(*IMPORTED) as warm:
        crossed = _told(story, aws, tmp_path / "whole", warm, None)
        dice = random.Random(seed)
        chosen = dice.sample(crossed, scaled(len(crossed)))
        killed = [_told_killed(story, aws, tmp_path, warm, at) for at in chosen]
    assert any(killed), "nothing was killed"


def _told(story: Story, aws: Account, root: Path, warm: Launcher, kill_at: str | None) -> list[str]:
    """The boundaries that a story has crossed."""
    root.mkdir()
    ec2 = RudeEc2(aws.endpoint.port)
    try:
        laptop = Laptop(aws, root)
        laptop.url = ec2.url
        story(laptop, ec2, warm, kill_at)
        return (root / "trace").read_text().splitlines()
    finally:
        ec2.close()


def _told_killed(story: Story, aws: Account, root: Path, warm: Launcher, kill_at: str) -> bool:
    print(f"killed at {kill_at}")
    place = root / kill_at.replace(" ", "-").replace("#", "-")
    crossed = _told(story, aws, place, warm, kill_at)
    return kill_at in crossed
