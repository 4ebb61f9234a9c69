"""What carries an attempt out is killed or held up: shims, the forker, jobs, late starts."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kill_proof import check, check_evidence, expected, verdict
from kill_queues import job, queue, retry
from kill_steps import Launcher, launcher
from kill_support import World, world
from kill_timing import at_random, until, uptime
from kill_traces import kill
from scale import SEED, scaled


@pytest.fixture(scope="module")
def warm() -> Iterator[Launcher]:
    """A launcher for all tests of this file."""
    with launcher() as made:
        yield made


def steady(proof: Path) -> dict[str, Any]:
    """Jobs whose end doesn't depend on how often they were begun."""
    jobs = [
        job("a", "work 0.15; make a.txt"),
        job("b", "work 0.1; sleep 30 & work 0.05", timeout="20s"),
        job("c", "work 0.12; end 3", retry=retry(2)),
        job("d", "work 0.1", "a"),
        job("e", "work 0.1", "a", "b"),
        job("server", "sleep 60 &", keep_background=True),
    ]
    return queue("steady", jobs, proof, max_parallel_jobs=3)


def test_shims_and_jobs_killed_at_random_instants(tmp_path: Path, warm: Launcher) -> None:
    """A killed shim would lose a job, use up its retries, or leave its tree beside the next."""
    with world(tmp_path / "quiet", steady) as quiet:
        wanted = expected(quiet)
    kills = 0
    for number in range(scaled(20)):
        dice = random.Random(f"{SEED}-{number}")
        with world(tmp_path / str(number), steady) as killed:
            done = _run_among_kills(killed, warm, dice)
            check(killed, wanted, shims_died=True)
            kills += done
    print(f"{kills} kills of shims, jobs and forkers, SEED={SEED}")
    assert kills


def _run_among_kills(killed: World, warm: Launcher, dice: random.Random) -> int:
    """Run the queue; four times (five losses of one job would be its own fault) kill something."""
    kills = 0
    running = warm.start(killed, *killed.run_words())
    while kills < 4:
        at_random(0.3, dice)
        if running.ended():
            break
        victims = killed.attempts()
        if victims:
            victim = dice.choice(victims)
            dice.choice(WAYS)(killed, victim.shim, victim.command)
            kills += 1
        if dice.random() < 0.4:
            running.end(signal.SIGKILL)
            running = warm.start(killed, *killed.run_words())
    if running.wait() < 0:
        running = warm.start(killed, *killed.run_words())
    assert running.wait() == 100, (killed.root / "output").read_text()
    return kills


def _kill_shim(_: World, shim: int, __: int | None) -> None:
    kill(shim)


def _kill_job_and_shim(_: World, shim: int, command: int | None) -> None:
    """The shim is stopped first: it can't write down how the job ended."""
    kill(shim, signal.SIGSTOP)
    if command is not None:
        kill(command)
    kill(shim)


def _kill_forker_and_shims(killed: World, _: int, __: int | None) -> None:
    """All that starts and watches; the jobs are orphans."""
    commands = {attempt.command for attempt in killed.attempts()}
    for pid in killed.shims():
        if pid not in commands:
            kill(pid)


WAYS: list[Callable[[World, int, int | None], None]] = [
    _kill_shim,
    _kill_job_and_shim,
    _kill_forker_and_shims,
]


def test_job_killed_by_another(tmp_path: Path, warm: Launcher) -> None:
    """A job that a stranger kills would not be told from one that exits with 137, or is lost."""

    def build(proof: Path) -> dict[str, Any]:
        does = "[ $JOB_ATTEMPT = 1 ] && sleep 30"
        return queue("victim", [job("a", does, retry=retry(2)), job("b", "end 137")], proof)

    with world(tmp_path / "w", build) as killed:
        running = warm.start(killed, *killed.run_words())
        until("the job runs", lambda: killed.said("a", "start"))
        [attempt] = killed.attempts()
        assert attempt.command is not None
        kill(attempt.command)
        assert running.wait() == 100
        assert verdict(killed)["a"] == ("completed", 0, None, False, 1, 2)
        assert verdict(killed)["b"] == ("failed", 137, None, False, 1, 1)
        check_evidence(killed)


def test_orphan_of_a_dead_shim_and_a_dead_runner(tmp_path: Path, warm: Launcher) -> None:
    """A job whose shim died while nobody watched would run on beside its next attempt."""

    def build(proof: Path) -> dict[str, Any]:
        return queue("orphan", [job("a", "[ $JOB_ATTEMPT = 1 ] && sleep 60; true")], proof)

    with world(tmp_path / "w", build) as killed:
        running = warm.start(killed, *killed.run_words())
        until("the job runs", lambda: killed.said("a", "start"))
        running.end(signal.SIGKILL)
        [attempt] = killed.attempts()
        kill(attempt.shim)
        assert attempt.command is not None and kill(attempt.command, 0), "the job lives on"
        assert warm.start(killed, *killed.run_words()).wait() == 0
        told = [(line.attempt, line.what) for line in killed.evidence()]
        assert told == [(1, "start"), (2, "start"), (2, "end-0")]
        assert killed.projection()["jobs"][0]["interruptions"] == 1
        until("the orphan is gone", lambda: not killed.leftovers())


@pytest.mark.parametrize("released", ["before", "after"])
@pytest.mark.parametrize("again", ["", "--fresh"])
def test_late_shim(tmp_path: Path, warm: Launcher, released: str, again: str) -> None:
    """A start that was asked for, and comes about after the next runner, would run it twice."""

    def build(proof: Path) -> dict[str, Any]:
        return queue("late", [job("a", "work 0.1"), job("b", "work 0.1", "a")], proof)

    with world(tmp_path / "w", build) as killed:
        assert warm.start(killed, *killed.run_words(), freeze=1).killed
        stopped = killed.shims()
        assert stopped
        running = warm.start(killed, *killed.run_words(*[again] if again else []))
        if released == "before":
            until("the job runs", lambda: killed.said("a", "start"))
        else:
            running.wait()
        for pid in stopped:
            kill(pid, signal.SIGCONT)
        assert running.wait() == 0
        told = [(line.job_id, line.attempt, line.what) for line in killed.evidence()]
        assert told == [("a", 1, "start"), ("a", 1, "end-0"), ("b", 1, "start"), ("b", 1, "end-0")]
        until("the late ones are gone", lambda: not killed.leftovers())


def test_grace_after_a_crash(tmp_path: Path, warm: Launcher) -> None:
    """A job told to end by a runner that died over it would be killed before it could save."""

    def build(proof: Path) -> dict[str, Any]:
        told = job("a", "until_term", timeout="200ms", term_grace="300ms")
        return queue("grace", [told], proof)

    with world(tmp_path / "w", build) as killed:
        stopping = "before signal_attempt#1"
        assert warm.start(killed, *killed.run_words(), kill_at=stopping).killed
        decided = killed.evidence()[0].up
        until("its grace is over", lambda: uptime() > decided + 0.6)
        assert warm.start(killed, *killed.run_words()).wait() == 100
        assert verdict(killed)["a"] == ("failed", 0, None, True, 1, 1)
        assert [line.what for line in killed.evidence()] == ["start", "end-0"]
