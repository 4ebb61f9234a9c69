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
            report.add("launch: calls to AWS", calls, 20, "", ", ".join(sorted(set(ec2.calls))))
            report.add("launch: the whole command, shortest", min(took), 10, "s", f"of {ROUNDS}")
        finally:
            ec2.close()


def _once(laptop: Laptop, queue_id: str) -> float:
    laptop.queue_id = queue_id
    laptop.write()
    begun = time.perf_counter()
    subprocess.run(laptop.words(), env=laptop.env, cwd=laptop.root, check=True, capture_output=True)
    return time.perf_counter() - begun


CASES: dict[str, Callable[[Report, Path], None]] = {"launch": launch}
