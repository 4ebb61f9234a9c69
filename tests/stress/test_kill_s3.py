"""The runner is SIGKILLed at random instants while it stores into S3: all gets there, no more."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from kill_proof import Expected
from kill_s3 import S3World, check_in_s3, expected_in_s3, s3_world, uploading, uploading_chain
from kill_stories import tell
from kill_support import Build
from kill_timing import PATIENCE, at_random, until
from s3_endpoint import Endpoint
from s3_faults import FaultProxy, Match, Nothing, ResetRequest
from scale import scaled

KILLS = 400
"""How many random instants are tried in all."""

REQUESTS = 20
"""Kills at one request each: twice the first of a start, twice the second, and so on."""

QUEUES: list[Build] = [uploading, uploading_chain]
SPAN = 0.6
"""Seconds in which a kill falls, from when the runner has taken the queue up."""

EARLY = 0.7
"""Seconds of those that fall anywhere from the process's start: while the store is tried."""

MOST = 15
"""Kills of one queue; then it may end."""

EACH = 14
"""Kills of one queue, as a rule."""


@pytest.fixture(scope="module")
def undisturbed(
    tmp_path_factory: pytest.TempPathFactory, endpoint: Endpoint
) -> dict[str, Expected]:
    """What every queue comes to, and stores, when nobody kills anything."""
    found = {}
    for build in QUEUES:
        with s3_world(tmp_path_factory.mktemp("undisturbed") / "w", build, endpoint) as quiet:
            found[build.__name__] = expected_in_s3(quiet)
    return found


def test_last_words_of_a_server(undisturbed: dict[str, Expected]) -> None:
    """What a server wrote after the job that started it had ended would never be stored."""
    log = undisturbed["uploading_chain"].stored["jobs/server/stdout.log"]
    assert log == b"output of server\nserved\n"


@pytest.mark.slow
def test_run_killed_while_it_stores(
    tmp_path: Path, endpoint: Endpoint, undisturbed: dict[str, Expected]
) -> None:
    """A killed `run`, started again, would lose or mix up results, or leave rubbish to be paid."""
    _matrix(tmp_path, endpoint, undisturbed, _run_until_done, scaled(KILLS * 3 // 4))


@pytest.mark.slow
def test_daemon_killed_while_it_stores(
    tmp_path: Path, endpoint: Endpoint, undisturbed: dict[str, Expected]
) -> None:
    """A killed daemon, started again, would lose or mix up results, or leave rubbish."""
    _matrix(tmp_path, endpoint, undisturbed, _daemon_until_done, scaled(KILLS - KILLS * 3 // 4))


@pytest.mark.slow
def test_run_killed_at_each_request(
    tmp_path: Path, endpoint: Endpoint, undisturbed: dict[str, Expected]
) -> None:
    """What a request has done, and nobody was told, would be left behind or done wrong again."""
    proxy = FaultProxy(endpoint.port)
    settings = {"AWS_ENDPOINT_URL": proxy.url}
    wanted = undisturbed["uploading_chain"]
    try:
        with s3_world(tmp_path / "w", uploading_chain, endpoint, settings) as killed:
            for number in range(scaled(REQUESTS)):
                process = killed.start(*killed.run_words())
                # Alternately: S3 has done what was asked, S3 has never heard of it.
                fault = Nothing() if number % 2 else ResetRequest()
                proxy.fail(Match(), fault, skip=number // 2, before=process.kill)
                assert process.wait(PATIENCE) == -9, killed.said_by_runner()
            killed.settings = {}
            assert killed.run() == wanted.exit_code, killed.said_by_runner()
            check_in_s3(killed, wanted)
    finally:
        proxy.close()


UntilDone = Callable[[S3World, random.Random, int], int]


def _matrix(
    tmp_path: Path,
    endpoint: Endpoint,
    wanted: dict[str, Expected],
    until_done: UntilDone,
    kills: int,
) -> None:
    def story(number: int, build: Build, dice: random.Random) -> int:
        expects = wanted[build.__name__]
        with s3_world(tmp_path / str(number), build, endpoint) as killed:
            had = until_done(killed, dice, expects.exit_code)
            check_in_s3(killed, expects)
            return had

    tell(QUEUES, kills, EACH, story)


def _run_until_done(killed: S3World, dice: random.Random, code: int) -> int:
    """Kill `run` after `run`; the last one is left alone. How many were killed."""
    for kills in range(MOST):
        process = killed.start(*killed.run_words())
        if _ends_before_kill(killed, process, dice):
            assert process.returncode == code, (killed.root / "output").read_text()
            return kills
    assert killed.run() == code, (killed.root / "output").read_text()
    return MOST


def _ends_before_kill(
    killed: S3World, process: subprocess.Popen[bytes], dice: random.Random
) -> bool:
    """Wait until it has taken the queue up, and a random time; kill it, unless it has ended."""
    if dice.random() < 0.85:
        until("taken up", lambda: process.poll() is not None or killed.is_taken_up())
        at_random(SPAN, dice)
    else:
        at_random(EARLY, dice)
    if process.poll() is not None:
        return True
    process.kill()
    process.wait()
    return False


def _daemon_until_done(killed: S3World, dice: random.Random, _: int) -> int:
    """Kill daemon after daemon until the queue has ended. How many were killed."""
    kills, submitted = 0, False
    while True:
        daemon = killed.start("daemon")
        if not submitted:
            until("the daemon answers", killed.daemon_answers)
            assert killed.submit()["ok"]
            submitted = True
        if kills < MOST:
            if dice.random() < 0.85:
                until("taken up", lambda: killed.ended() or killed.is_taken_up())
            at_random(SPAN, dice)
        else:
            until("the queue has ended", killed.ended)
        if killed.ended():
            until("the daemon has left the queue", lambda: not killed.is_taken_up())
            daemon.terminate()
            assert daemon.wait(PATIENCE) == 0
            return kills
        daemon.kill()
        daemon.wait()
        kills += 1
