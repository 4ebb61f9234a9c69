"""Single jobs of AWS Batch against a local server: its calls, and what a command takes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from measure import RUNNER, Report

sys.path.insert(0, str(Path(__file__).parents[1]))
from batch_account import BatchAccount
from batch_server import KeptLogs, Processes, Settings

ROUNDS = 5


def submit(report: Report, root: Path) -> None:
    """The second submission on: an image's definition is registered by the first."""
    account = BatchAccount(Processes(KeptLogs()), Settings(rates={}))
    account.server.set_placing(account.environment, False)
    account.register()
    try:
        for what, name in (("a definition", ["definition"]), ("an image", ["--image", "i"])):
            _once(account, root, name)
            took = []
            for _ in range(ROUNDS):
                before = len(account.server.seen)
                took.append(_once(account, root, name))
            asked = [seen.operation for seen in account.server.seen[before:]]
            calls = ", ".join(asked)
            report.add(f"batch submit with {what}: calls to AWS", len(asked), 3, "", calls)
            report.add(f"batch submit with {what}: shortest", min(took), 2, "s", f"of {ROUNDS}")
    finally:
        account.close()


def _once(account: BatchAccount, root: Path, name: list[str]) -> float:
    words = ["batch", "submit", *name, "--job-queue", "queue", "--", "true"]
    env = {**os.environ, **account.env, "HOME": str(root), "RUNNER_STATE_DIR": str(root / "batch")}
    begun = time.perf_counter()
    subprocess.run([*RUNNER, *words], env=env, check=True, capture_output=True)
    return time.perf_counter() - begun


CASES: dict[str, Callable[[Report, Path], None]] = {"batch-submit": submit}
