"""Storage fails at random under the real commands: nothing is lost or doubled, no queue is dropped.

EIO and ENOSPC on write, read, fsync, rename and their like, and a statvfs that lies, by a library
that the commands load. All of the trouble ends by itself when the faults do.
"""

from __future__ import annotations

import random
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from faulty import FaultyWorld, compiled, faulty_world, last_words, without_library
from kill_proof import Expected, check, expected
from kill_queues import Document, job, made, queue, retry
from kill_support import Build, world
from kill_timing import at_random, until

JOBS = 12


def in_line(proof: Path) -> Document:
    """One job after the other, long enough to meet trouble."""
    jobs = [_job(number, [f"j{number - 1}"] if number else [], proof) for number in range(JOBS)]
    return queue("in-line", jobs, proof)


def abreast(proof: Path) -> Document:
    """Three at a time; some fail, and one is there for that."""
    jobs = [_job(number, [], proof) for number in range(JOBS)]
    jobs.append(job("broken", "work 0.1; end 3", retry=retry(2)))
    jobs.append(job("clean", "work 0.05", "broken", run_if="failure"))
    return queue("abreast", jobs, proof, max_parallel_jobs=3)


def _job(number: int, after: list[str], proof: Path) -> Document:
    name = f"j{number}"
    does = f"work 0.15; make {name}.txt"
    if number % 4 == 3:
        does = f"work 0.1; fail_first 1 5; make {name}.txt"
    return job(name, does, *after, result_paths=made(name, proof), retry=retry(2))


QUEUES: list[Build] = [in_line, abreast]
RATES = [10_000, 50_000, 150_000, 400_000]
"""Calls of a million that fail, in a phase of trouble."""

PHASES = 8
ENDS_WITHIN = 90.0
"""Seconds after the last fault in which the queue has to have ended by itself."""

Tale = Callable[[FaultyWorld, random.Random, int], None]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library, compiled once."""
    return compiled(tmp_path_factory.mktemp("library"))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Expected]:
    """What every queue comes to on storage that is well."""
    found = {}
    for build in QUEUES:
        place = tmp_path_factory.mktemp("undisturbed") / "w"
        with world(place, without_library(build)) as quiet:
            found[build.__name__] = expected(quiet)
    return found


def _tell(
    tmp_path: Path,
    library: Path,
    wanted: dict[str, Expected],
    tale: Tale,
    seed: int,
    rounds: int,
) -> None:
    faults = 0
    for number in range(rounds):
        build = QUEUES[number % len(QUEUES)]
        expects = wanted[build.__name__]
        dice = random.Random(f"{seed}-{number}")
        with faulty_world(tmp_path / str(number), build, library, seed + number) as place:
            try:
                tale(place, dice, expects.exit_code)
                check(place, expects, stored_too=place.results.exists())
            except BaseException as error:
                error.add_note(f"{build.__name__} {number} of seed {seed}:\n{last_words(place)}")
                raise
            faults += place.faults.count
    print(f"{faults} faults in {rounds} queues")
    assert faults > 3 * rounds or rounds < 5, "a single round may meet few"


def test_run_on_failing_storage(
    tmp_path: Path,
    library: Path,
    undisturbed: dict[str, Expected],
    scaled: Callable[[int], int],
    seed: int,
) -> None:
    """`run` would lose, repeat or misjudge a job over a disk that fails for a while."""
    _tell(tmp_path, library, undisturbed, _run, seed, scaled(10))


def _run(place: FaultyWorld, dice: random.Random, code: int) -> None:
    """Trouble in phases; a run that gave up is begun again, one that goes on is left alone."""
    process = _begin(place)
    for _ in range(PHASES):
        place.faults.rate(dice.choice([0, *RATES]))
        at_random(0.4, dice)
        if process.poll() is not None:
            if dice.random() < 0.8:
                place.faults.rate(0)
            process = _begin(place)
    place.faults.rate(0)
    process.wait(ENDS_WITHIN)
    assert process.returncode in (code, 1, 2, 105), process.returncode
    assert place.run() == code


def _begin(place: FaultyWorld) -> subprocess.Popen[bytes]:
    process = place.start(*place.run_words())
    until("taken up", lambda: process.poll() is not None or place.is_taken_up())
    return process


def test_daemon_on_failing_storage(
    tmp_path: Path,
    library: Path,
    undisturbed: dict[str, Expected],
    scaled: Callable[[int], int],
    seed: int,
) -> None:
    """A daemon would drop a queue, or end, over a disk that fails for a while."""
    _tell(tmp_path, library, undisturbed, _daemon, seed, scaled(10))


def _daemon(place: FaultyWorld, dice: random.Random, _: int) -> None:
    """Trouble in phases, restarts among it; then it all ends by itself."""
    daemon = place.start("daemon")
    until("the daemon answers", place.daemon_answers)
    assert "error" not in place.submit()
    for _ in range(PHASES):
        place.faults.rate(dice.choice([0, *RATES]))
        at_random(0.5, dice)
        if dice.random() < 0.15:
            daemon.send_signal(dice.choice([signal.SIGKILL, signal.SIGTERM]))
            daemon.wait(ENDS_WITHIN)
        if daemon.poll() is not None:
            # Where its own folders can't be used it says so and ends: systemd begins it again.
            daemon = place.start("daemon")
    place.faults.rate(0)
    if daemon.poll() is not None:
        daemon = place.start("daemon")
    until("the queue has ended", place.ended, ENDS_WITHIN)
    until("the daemon has left the queue", lambda: not place.is_taken_up(), ENDS_WITHIN)
    until("the daemon answers", place.daemon_answers)
    daemon.terminate()
    assert daemon.wait(ENDS_WITHIN) == 0
