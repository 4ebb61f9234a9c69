"""The machine loses its power: what ran is interrupted and runs again, clocks go on."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import pytest
from kill_machine import Machine
from kill_proof import check, check_evidence, expected, verdict
from kill_queues import job, made, queue, retry
from kill_support import World, world
from kill_timing import at_random, until, uptime
from namespaces import needs_namespaces
from scale import SEED, scaled

CUTS = 4
"""Power cuts of one queue: five in a row would be taken for a job's own doing."""


@pytest.fixture(scope="module", autouse=True)
def _namespaces() -> None:
    needs_namespaces()


def steady(proof: Path) -> dict[str, Any]:
    """Jobs whose end doesn't depend on how often they were begun."""
    jobs = [
        job("a", "work 0.15; make a.txt", result_paths=made("a", proof)),
        job("b", "work 0.3"),
        job("c", "work 0.1; end 3", retry=retry(2)),
        job("d", "work 0.2", "a"),
        job("e", "work 0.2; make e.txt", "a", "b", result_paths=made("e", proof)),
    ]
    return queue("steady", jobs, proof, max_parallel_jobs=3)


def _clock(dice: random.Random) -> float:
    """Where a boot's clock begins: as a rule far before the last boot's end, or far behind it."""
    return dice.choice([dice.uniform(20, 60), uptime() + dice.uniform(0, 1e6)])


def test_power_cut_at_random_instants(tmp_path: Path) -> None:
    """A boot would be taken for the last one: jobs adopted that are gone, waits that never end."""
    with world(tmp_path / "quiet", steady) as quiet:
        wanted = expected(quiet)
    cuts = interruptions = 0
    for number in range(scaled(20)):
        dice = random.Random(f"{SEED}-{number}")
        with world(tmp_path / str(number), steady) as killed:
            cuts += _run_among_cuts(killed, dice, wanted.exit_code)
            check(killed, wanted, shims_died=True)
            interruptions += sum(j.get("interruptions", 0) for j in killed.projection()["jobs"])
    print(f"{cuts} power cuts, {interruptions} interruptions, SEED={SEED}")
    assert interruptions


def _run_among_cuts(killed: World, dice: random.Random, code: int) -> int:
    for cuts in range(CUTS):
        machine = Machine(killed, _clock(dice))
        until("taken up", lambda machine=machine: machine.ended() or killed.is_taken_up())
        if not cuts:
            # On a busy machine each of the cuts may else come before there is anything to cut.
            until("a job runs", lambda: bool(killed.evidence()))
        at_random(0.5, dice)
        if machine.ended():
            assert machine.wait() == code, (killed.root / "output").read_text()
            return cuts
        machine.cut_power()
    assert Machine(killed, _clock(dice)).wait() == code, (killed.root / "output").read_text()
    return CUTS


@pytest.mark.parametrize("clock", [25.0, 5e6])
def test_waits_and_numbers_after_a_boot(tmp_path: Path, clock: float) -> None:
    """A wait would begin anew or be forgotten; an interrupted attempt would be counted."""

    def build(proof: Path) -> dict[str, Any]:
        jobs = [
            job("waits", "fail_first 1 3", retry=retry(2, "1500ms")),
            job("runs", "[ $JOB_ATTEMPT = 2 ] || work 60"),
        ]
        return queue("boot", jobs, proof, max_parallel_jobs=2)

    with world(tmp_path / "w", build) as killed:
        machine = Machine(killed, 1000)
        until("the wait has begun", lambda: "retry_due" in (killed.stored_job("waits") or {}))
        until("the other runs", lambda: killed.said("runs", "start"))
        machine.cut_power()
        until("everything is gone", lambda: not killed.leftovers())
        booted = time.monotonic()
        machine = Machine(killed, clock)
        until("it runs again", lambda: killed.said("runs", "end-0"))
        assert not killed.said("waits", "end-0"), "the wait was forgotten, or held up the others"
        until("the wait is over", lambda: killed.said("waits", "end-0"))
        # Taken for a time of this boot it would be over at once, or in a quarter of an hour, which
        # is past anybody's patience; a slow disk may hold it up for seconds.
        assert time.monotonic() - booted > 1.0
        assert machine.wait() == 0
        told = verdict(killed)
        assert told["waits"] == ("completed", 0, None, False, 1, 2)
        assert told["runs"] == ("completed", 0, None, False, 0, 2)
        check_evidence(killed, shims_died=True)


def test_global_clock_after_boots(tmp_path: Path) -> None:
    """The time a queue was worked on would begin anew with each boot, or count the nights."""

    def build(proof: Path) -> dict[str, Any]:
        slow = job("slow", "work 60")
        return queue("clock", [slow], proof, global_timeout="3s")

    with world(tmp_path / "w", build) as killed:
        began = time.monotonic()
        for clock in (1000, 30, 1e6):
            machine = Machine(killed, clock)
            attempt = {1000: 1, 30: 2, 1e6: 3}[clock]
            until("it runs", lambda n=attempt: _starts(killed) == n)
            worked = killed.stored("SELECT record FROM queue").get("worked", 0.0)
            if clock == 1e6:
                break
            assert worked < 2
            at_random(0.2, random.Random(SEED))
            machine.cut_power()
        assert machine.wait() == 100
        state = killed.projection()
        assert state["reason"] == "global timeout 3s exceeded"
        assert state["jobs"][0]["timed_out"] is True
        assert time.monotonic() - began > 3


def _starts(killed: World) -> int:
    return sum(line.what == "start" for line in killed.evidence())
