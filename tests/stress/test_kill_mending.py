"""SIGKILL at random instants of what mends a queue: the old or the new, and nothing twice."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from world import World

ROUNDS = 25
"""Of each story."""

LONGEST = 1.5
"""Seconds after which a command is killed at the latest: it has mostly come to its end by then."""


def job(name: str, rest: str = "true", **more: Any) -> dict[str, Any]:
    """A job that notes its starts, and whether another of it runs at the same time."""
    command = (
        f"mkdir lock.{name} || echo {name} >> overlaps; echo >> count.{name}; sleep 0.05; "
        f"rmdir lock.{name}; {rest}"
    )
    return {"job_id": name, "command": command, "timeout": "1m", **more}


def starts(world: World, name: str) -> int:
    path = world.home / f"count.{name}"
    return len(path.read_text().splitlines()) if path.exists() else 0


def pipeline(world: World, train: str, *more: dict[str, Any]) -> str:
    return world.document(
        {**job("prep", "echo data > prep.out"), "result_paths": ["prep.out"]},
        job("train", train, depends_on=["prep"]),
        job("eval", depends_on=["train"]),
        job("report", depends_on=["eval"], run_if="always"),
        *more,
        working_directory=str(world.home),
        on_failure="stop",
    )


def killed(world: World, rng: random.Random, *words: str) -> None:
    """Start a command, and end it at some instant of its life."""
    process = world.start(*words)
    time.sleep(rng.uniform(0.05, LONGEST))  # reason: the instant is what is drawn
    process.send_signal(signal.SIGKILL)
    process.wait()


def failed(world: World) -> list[str]:
    """A queue whose training has failed; the words that go on with it."""
    words = ["run", pipeline(world, "exit 3"), "--results", "store"]
    assert world.call(*words).returncode == 100
    return words


def check_mended(world: World, words: list[str]) -> None:
    """All is done, what was done before was not done again, and nothing ran beside itself."""
    done = world.call(*words)
    assert done.returncode == 0, done.stderr
    assert starts(world, "prep") == 1, "a completed job has run again"
    jobs = world.jobs()
    assert {name: told["status"] for name, told in jobs.items()} == dict.fromkeys(jobs, "completed")
    for name, told in jobs.items():
        assert starts(world, name) == told["attempt"], f"{name}: starts without a number"
    assert not (world.home / "overlaps").exists(), (world.home / "overlaps").read_text()


def corrected(world: World, rng: random.Random) -> None:
    words = failed(world)
    flags = rng.choice([["--retry-failed"], ["--update"], ["--retry-failed", "--update"]])
    pipeline(world, "cat prep.out")
    for _ in range(rng.randint(1, 3)):
        killed(world, rng, *words, *flags)
    check_mended(world, [*words, *flags])


def corrected_elsewhere(world: World, rng: random.Random) -> None:
    """Another state folder, which takes the run over from the store."""
    words = failed(world)
    pipeline(world, "cat prep.out")
    (world.home / "prep.out").unlink()
    there = ["--state-dir", str(world.home / "there"), "--log-dir", str(world.home / "there-logs")]
    for _ in range(rng.randint(1, 2)):
        killed(world, rng, *words, *there, "--retry-failed")
    done = world.call(*words, *there, "--retry-failed")
    assert done.returncode == 0, done.stderr
    assert starts(world, "prep") == 1, "a completed job has run again"
    assert not (world.home / "overlaps").exists()


def requests(world: World, rng: random.Random) -> None:
    """`retry`, `pause` and `unpause` of a queue that no process works on."""
    words = failed(world)
    for _ in range(rng.randint(1, 4)):
        killed(world, rng, rng.choice(["retry", "pause", "unpause"]), "--queue", "q")
    for verb in ("retry", "unpause"):
        world.call(verb, "--queue", "q")
    done = world.call(*words)
    assert done.returncode == 100, done.stderr
    assert starts(world, "prep") == 1, "a completed job has run again"
    assert starts(world, "train") == world.jobs()["train"]["attempt"] == 2
    pipeline(world, "true")
    check_mended(world, [*words, "--retry-failed"])


@pytest.mark.parametrize("story", [corrected, corrected_elsewhere, requests])
def test_killed_at_random_instants(
    tmp_path: Path,
    story: Callable[[World, random.Random], None],
    scaled: Callable[[int], int],
    seed: int,
) -> None:
    """A crash in the middle of a correction would lose the queue, or do a day's work again."""
    rng = random.Random(seed)
    for number in range(scaled(ROUNDS)):
        world = World(tmp_path / str(number))
        try:
            story(world, rng)
        finally:
            world.close()
