"""The runner is SIGKILLed at random instants, again and again: nothing is lost, nothing runs twice.

The real commands are killed, with nothing in them that knows of it.
"""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from kill_proof import Expected, check, expected
from kill_queues import chain, job, parallel, queue, timeouts
from kill_stories import tell
from kill_support import Build, World, world
from kill_timing import PATIENCE, at_random, until
from scale import SEED, scaled

QUEUES: list[Build] = [chain, parallel, timeouts]
KILLS = 1000
"""How many random instants are tried in all."""

SPAN = 0.3
"""Seconds in which a kill falls, from when the runner has taken the queue up."""

MOST = 8
"""Kills of one queue; then it may end."""

EACH = 7
"""Kills of one queue, as a rule."""

UntilDone = Callable[[World, random.Random, int], int]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Expected]:
    """What every queue comes to when nobody kills anything."""
    found = {}
    for build in QUEUES:
        with world(tmp_path_factory.mktemp("undisturbed") / "w", build) as quiet:
            found[build.__name__] = expected(quiet)
    return found


@pytest.mark.slow
def test_run_killed_at_random_instants(tmp_path: Path, undisturbed: dict[str, Expected]) -> None:
    """A killed `run`, started again, would lose, repeat or misjudge a job."""
    _matrix(tmp_path, undisturbed, _run_until_done, scaled(KILLS * 11 // 20))


@pytest.mark.slow
def test_daemon_killed_at_random_instants(tmp_path: Path, undisturbed: dict[str, Expected]) -> None:
    """A killed daemon, started again, would lose, repeat or misjudge a job."""
    _matrix(tmp_path, undisturbed, _daemon_until_done, scaled(KILLS - KILLS * 11 // 20))


def _matrix(tmp_path: Path, wanted: dict[str, Expected], until_done: UntilDone, kills: int) -> None:
    def story(number: int, build: Build, dice: random.Random) -> int:
        expects = wanted[build.__name__]
        with world(tmp_path / str(number), build) as killed:
            had = until_done(killed, dice, expects.exit_code)
            check(killed, expects, stored_too=killed.results.exists())
            return had

    tell(QUEUES, kills, EACH, story)


def _run_until_done(killed: World, dice: random.Random, code: int) -> int:
    """Kill `run` after `run`; the last one is left alone. How many were killed."""
    for kills in range(MOST):
        process = killed.start(*killed.run_words())
        if _ends_before_kill(killed, process, dice):
            assert process.returncode == code, (killed.root / "output").read_text()
            return kills
        at_random(0.1, dice)
    assert killed.run() == code, (killed.root / "output").read_text()
    return MOST


def _ends_before_kill(killed: World, process: subprocess.Popen[bytes], dice: random.Random) -> bool:
    """Wait until it has taken the queue up, and a random time; kill it, unless it has ended."""
    if dice.random() < 0.9:
        until("taken up", lambda: process.poll() is not None or killed.is_taken_up())
    at_random(SPAN, dice)
    if process.poll() is not None:
        return True
    process.kill()
    process.wait()
    return False


def _daemon_until_done(killed: World, dice: random.Random, _: int) -> int:
    """Kill daemon after daemon until the queue has ended. How many were killed."""
    kills, submitted = 0, False
    while True:
        daemon = killed.start("daemon")
        if kills >= MOST or dice.random() < 0.9:
            until("the daemon answers", killed.daemon_answers)
            if not submitted:
                assert "error" not in killed.submit()
                submitted = True
        if kills < MOST:
            at_random(SPAN, dice)
        else:
            until("the queue has ended", killed.ended)
        if submitted and killed.ended():
            until("the daemon has left the queue", lambda: not killed.is_taken_up())
            # Before it listens for signals it ends by them, as any process does.
            until("the daemon answers", killed.daemon_answers)
            daemon.terminate()
            assert daemon.wait(PATIENCE) == 0
            return kills
        daemon.kill()
        daemon.wait()
        kills += 1
        at_random(0.1, dice)


def test_order_of_queues_survives(tmp_path: Path) -> None:
    """A daemon that was killed would take its queues up in another order, or forget one."""
    names = [f"queue-{letter}" for letter in "bca"]
    dice = random.Random(SEED)

    def build(name: str, proof: Path) -> dict[str, Any]:
        return queue(name, [job(name, "work 0.1"), job("same", "work 0.05", name)], proof)

    with world(tmp_path / "w", partial(build, names[0])) as killed:
        daemon = killed.start("daemon")
        until("the daemon answers", killed.daemon_answers)
        for name in names:
            killed.write(build(name, killed.proof))
            assert killed.submit()["ok"]
        while not killed.ended():
            at_random(SPAN, dice)
            daemon.kill()
            daemon.wait()
            daemon = killed.start("daemon")
            until("the daemon answers", killed.daemon_answers)
        starts = [line.job_id for line in killed.evidence() if line.what == "start"]
        assert [name for name in starts if name != "same"] == names, starts
        assert starts.count("same") == 3
