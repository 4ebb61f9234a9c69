"""A machine with systemd (tests/lab): installed, booted, restarted."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from measure import Report

sys.path.insert(0, str(Path(__file__).parents[1]))
from cloud import Cloud, CloudMachine
from installed import RUNNER, WORK, Server, build_bundle, install, queue
from lab import Machine, build_root, what_is_missing
from launched import Launched, quickstart, role
from launched import report as told_by

from runner.targets.ec2.launch.user_data import user_data

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


def launch(report: Report, root: Path) -> None:
    """From EC2's start of a machine that has nothing to its first job, as its own report has it."""
    if missing := what_is_missing():
        print(f"left out: {missing}")
        return
    cloud = Cloud()
    try:
        launched = Launched(cloud, build_bundle(Path(tempfile.mkdtemp(dir=root))))
        boot = launched.boot(quickstart())
        cloud.allow(role(cloud.bucket))
        data = user_data(boot)
        report.add("launch: user-data", len(data) / 1024, 16, "KiB")
        there = CloudMachine(build_root(), cloud, data)
        with there.machine:
            there.machine.boot(wait=False)
            assert there.machine.wait_end(300) == 0
        told = told_by(cloud, boot)
        state = json.loads(cloud.get("queues/my-first-queue/queue-state.json") or b"{}")
    finally:
        cloud.close()
    first = datetime.fromisoformat(state["jobs"][0]["started_at"]).timestamp()
    phases = [f"{phase['phase']} {phase['seconds']:.1f} s" for phase in told["phases"]]
    report.add("launch: boot → first job", first - told["booted"], 30, "s", ", ".join(phases))


CASES: dict[str, Callable[[Report, Path], None]] = {"machine": machine, "launch": launch}
