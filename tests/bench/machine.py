"""A machine with systemd (tests/lab): installed, booted, restarted."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from measure import Report

sys.path.insert(0, str(Path(__file__).parents[1]))
from installed import RUNNER, WORK, Server, build_bundle, install, queue
from lab import Machine, build_root, what_is_missing

ROUNDS = 3


def machine(report: Report, root: Path) -> None:
    """What a person waits for, and how long jobs are on their own."""
    if missing := what_is_missing():
        print(f"left out: {missing}")
        return
    with Machine(build_root()) as made:
        server = Server(made)
        made.boot()
        bundle = build_bundle(Path(tempfile.mkdtemp(dir=root)))
        begun = time.perf_counter()
        install(made, bundle)
        report.add("bundle: unpacked, installed, ready", time.perf_counter() - begun, 10, "s")
        server.submit(
            queue({"job_id": "a", "command": "date +%s.%N >> began; exec sleep 3600"}),
        )
        server.wait_for_jobs(a="running")
        restarts = [_restart(server) for _ in range(ROUNDS)]
        detail = f"of {ROUNDS}; the service's next start has adopted the job"
        report.add("restart of the service: unwatched, longest", max(restarts), 2, "s", detail)
        boots = [_boot(server, number + 2) for number in range(ROUNDS)]
        detail = f"of {ROUNDS}, after power cuts"
        report.add("boot → the first job has started, longest", max(boots), 10, "s", detail)


def _restart(server: Server) -> float:
    begun = time.perf_counter()
    server.machine.run("systemctl", "restart", "runner")  # returns when it is ready
    took = time.perf_counter() - begun
    assert server.machine.run(RUNNER, "status", "--queue", "q").returncode == 0
    return took


def _boot(server: Server, runs: int) -> float:
    server.machine.power_cut()
    begun = time.time()
    server.machine.boot(wait=False)

    def started() -> list[str] | None:
        told = server.machine.read(f"{WORK}/began").split()
        return told if len(told) == runs else None

    return float(server.machine.wait_for(started, "the first job")[-1]) - begun


CASES: dict[str, Callable[[Report, Path], None]] = {"machine": machine}
