"""A launch against local endpoints: how often AWS is asked, and what the command itself takes.

moto is one process of Python: the most of the time is its. The number of calls is what a user's
line to AWS pays for, each 30 to 200 ms, less what is asked at once.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from measure import Report

sys.path.insert(0, str(Path(__file__).parents[1]))
from account import Laptop, account
from ec2_faults import RudeEc2
from elsewhere import Elsewhere
from s3_endpoint import Endpoint

ROUNDS = 3


def launch(report: Report, root: Path) -> None:
    """The second launch of a laptop: its bundle is in the bucket."""
    with account() as aws:
        ec2 = RudeEc2(aws.endpoint.port)
        ec2.prices["t3.medium"] = 0.0416
        try:
            folder = root / "launch"
            folder.mkdir()
            laptop = Laptop(aws, folder)
            laptop.url = ec2.url
            _once(laptop, "first")
            took = []
            for number in range(ROUNDS):
                ec2.calls.clear()
                took.append(_once(laptop, f"again-{number}"))
            calls = len(ec2.calls)
            report.add("launch: calls to AWS", calls, 22, "", ", ".join(sorted(set(ec2.calls))))
            report.add("launch: the whole command, shortest", min(took), 10, "s", f"of {ROUNDS}")
        finally:
            ec2.close()


def _once(laptop: Laptop, queue_id: str) -> float:
    laptop.queue_id = queue_id
    laptop.write()
    begun = time.perf_counter()
    subprocess.run(laptop.words(), env=laptop.env, cwd=laptop.root, check=True, capture_output=True)
    return time.perf_counter() - begun


def status(report: Report, root: Path) -> None:
    """Asked over SSM, whose agent here fetches a command at once: what is ours of the wait."""
    endpoint = Endpoint()
    there = Elsewhere(root, endpoint)
    try:
        name = there.launched()
        there.run({"job_id": "a", "command": "true", "timeout": "1m"})
        there.machine.until(lambda: there.status() == "completed")
        took = []
        for _ in range(ROUNDS):
            there.ssm.calls.clear()
            begun = time.perf_counter()
            assert there.laptop.call("status", name).returncode == 0
            took.append(time.perf_counter() - begun)
        calls = sum(there.ssm.calls.values())
        report.add("status over SSM: calls to SSM", calls, 6, "", "send, then look for the answer")
        report.add("status over SSM: the whole command, shortest", min(took), 10, "s")
    finally:
        there.close()
        endpoint.close()


CASES: dict[str, Callable[[Report, Path], None]] = {"launch": launch, "status-over-ssm": status}
