"""A real machine that is rebooted and cut off: it goes on by itself, and nothing is done twice."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import pytest
from installed import WORK, Server, queue

CUTS = 20
JOBS = 150


def test_a_shutdown_interrupts_in_an_orderly_way(server: Callable[..., Server]) -> None:
    """Jobs would get no word before the machine goes down, and the attempt count as a crash."""
    save = "trap 'echo saved >> saves; exit 0' TERM; while :; do sleep 0.1; done"
    there = server()
    there.machine.boot()
    there.submit(
        queue(
            {"job_id": "done", "command": "echo >> done"},
            {"job_id": "saves", "command": save, "term_grace": "10m", "depends_on": ["done"]},
        )
    )
    there.wait_for_jobs(saves="running")
    there.machine.reboot()
    told = there.wait_for_jobs(done="completed", saves="running")
    assert told["jobs"]["saves"]["attempt"] == 2
    assert told["jobs"]["saves"]["interruptions"] == 1
    assert there.machine.read(f"{WORK}/saves") == "saved\n"
    journal = there.machine.journal("-u", "runner", "-o", "cat")
    assert "machine goes down" in journal
    assert "saves interrupted attempt=1 exit_code=0" in journal
    begun = time.monotonic()
    there.machine.power_off()
    assert time.monotonic() - begun < 20
    there.machine.boot()
    assert there.wait_for_jobs(saves="running")["jobs"]["saves"]["attempt"] == 3


@pytest.mark.slow
def test_power_cuts_cost_time_and_no_work(server: Callable[..., Server], seed: int) -> None:
    """After an outage somebody would have to start it again, or find out what was done."""
    draw = random.Random(seed)
    there = server()
    machine = there.machine
    machine.boot()
    # Each job leaves a line for each of its runs, and one more when it has done its work.
    command = 'echo "$JOB_ID began $JOB_ATTEMPT" >> story; sleep 0.1; echo "$JOB_ID ended" >> story'
    jobs = [{"job_id": f"j{number}", "command": command} for number in range(JOBS)]
    there.submit(queue(*jobs, max_parallel_jobs=2))
    completed: set[str] = set()
    for _ in range(CUTS):
        time.sleep(draw.uniform(0, 1.2))  # reason: the instant of a cut is the test's input
        told = there.status()
        before = {j for j, job in told.get("jobs", {}).items() if job["status"] == "completed"}
        assert completed <= before or not told, "what was completed is not any more"
        completed |= before
        machine.power_cut()
        # Any instant of the boot is one to be cut at, too.
        machine.boot(wait=draw.random() < 0.5)
    told = there.wait_until("completed")
    story = machine.read(f"{WORK}/story").splitlines()
    for name, job in told["jobs"].items():
        assert job["status"] == "completed"
        began = [line.split()[-1] for line in story if line.startswith(f"{name} began")]
        ended = story.count(f"{name} ended")
        assert len(began) == len(set(began)), f"{name}: an attempt ran twice: {began}"
        assert ended >= 1
        # One that had done its work when the power went, a moment before that was durable, may
        # run again; one that was seen to be completed never does.
        if name in completed:
            assert int(began[-1]) == job["attempt"]
    interrupted = sum(job.get("interruptions", 0) for job in told["jobs"].values())
    assert interrupted > 0, "no cut met a running job"
    assert all(job["attempt"] <= 1 + job.get("interruptions", 0) for job in told["jobs"].values())
