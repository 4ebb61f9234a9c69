"""The disk loses steps, or a process stands still: nothing runs twice at once, and it all ends.

The runner is killed at a random instant and its state harmed: the log lost or damaged, an older
copy put back. What is known elsewhere comes back; the rest may be done again, never side by side.
"""

from __future__ import annotations

import random
import shutil
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from kill_proof import check_nothing_left
from kill_queues import Document, job, made, queue
from kill_support import World, world
from kill_timing import PATIENCE, at_random, until
from kill_traces import kill

JOBS = 6


def steady(proof: Path) -> Document:
    """Jobs whose end doesn't depend on how often they were begun."""
    jobs = []
    for number in range(JOBS):
        name, after = f"j{number}", [f"j{number - 2}"] if number >= 2 else []
        does = f"work 0.{2 + number % 3}; make {name}.txt"
        described = job(name, does, *after, result_paths=made(name, proof))
        # An attempt number may come again: the steps that had counted it are gone.
        again = 'rm -f "$PROOF/once/$RUN.$JOB_ID.$JOB_ATTEMPT"; begin'
        jobs.append({**described, "command": described["command"].replace("begin", again, 1)})
    return queue("steady", jobs, proof, max_parallel_jobs=2)


def lose_log(place: World, _: random.Random) -> None:
    """The log is gone, as after a careless copy of the database alone."""
    (place.queue_dir / "state.db-wal").unlink(missing_ok=True)
    (place.queue_dir / "state.db-shm").unlink(missing_ok=True)


def damage_log(place: World, dice: random.Random) -> None:
    """One byte, or all from some point on, isn't what was written."""
    log = place.queue_dir / "state.db-wal"
    content = bytearray(log.read_bytes()) if log.exists() else bytearray()
    if not content:
        return
    at = dice.randrange(len(content))
    if dice.random() < 0.5:
        content[at] ^= 1 << dice.randrange(8)
    else:
        content[at:] = bytes(len(content) - at)
    log.write_bytes(content)
    (place.queue_dir / "state.db-shm").unlink(missing_ok=True)


def put_copy_back(place: World, _: random.Random) -> None:
    """As the message of a damaged state advises."""
    copy = place.root / "copy.db"
    if copy.exists():
        lose_log(place, _)
        shutil.copy(copy, place.queue_dir / "state.db")


def take_copy(place: World) -> None:
    """A sound copy of the state as it stands, by SQLite's own backup."""
    source = place.queue_dir / "state.db"
    if not source.exists():
        return
    with closing(sqlite3.connect(source)) as ours:
        with closing(sqlite3.connect(place.root / "copy.db")) as copy:
            ours.backup(copy)


HARMS = [lose_log, damage_log, put_copy_back]


def test_killed_and_harmed(tmp_path: Path, scaled: Callable[[int], int], seed: int) -> None:
    """A state that went back would run a job beside its living attempt, or never come to an end."""
    adopted = 0
    for number in range(scaled(30)):
        dice = random.Random(f"{seed}-{number}")
        with world(tmp_path / str(number), steady) as place:
            try:
                adopted += _harmed(place, dice)
                _check(place)
            except BaseException as error:
                output = (place.root / "output").read_text(errors="replace")
                error.add_note(f"{number} of seed {seed}:\n{output[-4000:]}")
                raise
    print(f"{adopted} attempts adopted by states that went back")


def _harmed(place: World, dice: random.Random) -> int:
    for _ in range(dice.randint(1, 4)):
        process = place.start(*place.run_words())
        until("taken up", lambda p=process: p.poll() is not None or place.is_taken_up())
        at_random(0.5, dice)
        if dice.random() < 0.4:
            take_copy(place)
        at_random(0.4, dice)
        if process.poll() is not None:
            break
        process.kill()
        process.wait()
        if dice.random() < 0.8:
            dice.choice(HARMS)(place, dice)
    code = place.run()
    assert code == 0, code
    return (place.root / "output").read_text(errors="replace").count(" adopted")


def _check(place: World) -> None:
    lines = place.evidence()
    beside = [line for line in lines if line.what == "beside"]
    assert not beside, beside
    assert {job["status"] for job in place.projection()["jobs"]} == {"completed"}
    for number in range(JOBS):
        assert (place.results / "jobs" / f"j{number}" / f"j{number}.txt").exists()
    check_nothing_left(place)


def test_processes_that_stand_still(
    tmp_path: Path, scaled: Callable[[int], int], seed: int
) -> None:
    """A daemon, a shim or a job that is stopped for a while would be taken for dead, or hang it."""
    stopped = 0
    for number in range(scaled(20)):
        dice = random.Random(f"{seed}-{number}")
        with world(tmp_path / str(number), steady) as place:
            try:
                stopped += _stopped(place, dice)
                _check(place)
            except BaseException as error:
                output = (place.root / "output").read_text(errors="replace")
                error.add_note(f"{number} of seed {seed}:\n{output[-4000:]}")
                raise
    assert stopped or scaled(20) < 5, "a single round may end before anything is stopped"
    print(f"{stopped} processes stopped")


def _stopped(place: World, dice: random.Random) -> int:
    """Stop any process of the world, now and then; restart the runner under it."""
    process = place.start(*place.run_words())
    until("taken up", lambda: process.poll() is not None or place.is_taken_up())
    count = 0
    for _ in range(6):
        at_random(0.2, dice)
        victims = place.leftovers()
        if not victims:
            break
        victim = dice.choice(victims)
        count += kill(victim, signal.SIGSTOP)
        at_random(0.5, dice)
        if dice.random() < 0.3 and process.poll() is None:
            process.kill()
            process.wait()
            process = place.start(*place.run_words())
        kill(victim, signal.SIGCONT)
    if process.wait(PATIENCE) != 0:
        assert process.returncode < 0 or place.run() == 0
    assert place.run() == 0
    return count
