"""Where logs are, whichever folders a later command is told of."""

from __future__ import annotations

import shutil
from pathlib import Path

from world import World

SAY = {"job_id": "a", "command": "echo from $WHO", "timeout": "1m"}


def run(world: World, document: str, *flags: str, who: str = "me", code: int = 0) -> str:
    done = world.call("run", document, *flags, env={"WHO": who})
    assert done.returncode == code, done
    return done.stderr


def logged(world: World, *flags: str) -> str:
    done = world.call("logs", "a", *flags)
    assert done.returncode == 0, done
    return done.stdout


def test_the_state_knows_where_its_logs_are(world: World) -> None:
    """`logs` would say that they are gone, for want of a flag that `run` was given."""
    document = world.document(SAY)
    run(world, document, "--state-dir", "s", "--log-dir", "l", who="first")
    assert logged(world, "--state-dir", "s") == "from first\n"
    assert not (world.home / "s/logs").exists()
    told = run(world, document, "--state-dir", "s", "--retry-failed")
    assert f"the logs of q are in {world.home}/l" in told
    run(world, document, "--state-dir", "s", "--fresh", who="second")
    assert logged(world, "--state-dir", "s") == "from second\n"
    [aside] = {p.name for p in (world.home / "s/queues").iterdir()} - {"q"}
    assert logged(world, "--state-dir", "s", "--queue", aside) == "from first\n"
    assert world.call("prune", "--older-than", "1ms", "--state-dir", "s").returncode == 0
    assert [p.name for p in (world.home / "l/queues").iterdir()] == []


def test_a_moved_state_folder_takes_its_logs_along(world: World) -> None:
    """A copy or a renamed folder would look for its logs where they were once."""
    run(world, world.document(SAY), "--state-dir", "s", who="first")
    (world.home / "s").rename(world.home / "moved")
    assert logged(world, "--state-dir", "moved") == "from first\n"


def test_logs_of_another_state_folder_are_left_alone(world: World) -> None:
    """One run's logs would be set aside for another's, and shown in place of them."""
    document = world.document(SAY)
    shared = ["--log-dir", "l"]
    run(world, document, "--state-dir", "s1", *shared, who="first")
    told = run(world, document, "--state-dir", "s2", *shared, who="second", code=2)
    assert f"{world.home}/s1" in told and "--log-dir" in told
    assert not (world.home / "s2/queues/q").exists()
    assert logged(world, "--state-dir", "s1") == "from first\n"
    run(world, document, "--state-dir", "s2", who="second")
    assert logged(world, "--state-dir", "s2") == "from second\n"
    # Nobody's any more: then they make way.
    shutil.rmtree(Path(world.home / "s1"))
    run(world, document, "--state-dir", "s3", *shared, who="third")
    assert logged(world, "--state-dir", "s3") == "from third\n"
