"""A place to run the real commands in: folders of its own, processes that end with it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from world import attempts_alive

RUNNER = [sys.executable, "-m", "runner"]
PATIENCE = 30.0
"""Seconds after which a condition that never comes about fails its test."""


class Bed:
    """State, logs and results below one folder; ``state`` or the others may be set elsewhere."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.state = root / "state"
        self.logs = root / "logs"
        self.results = root / "results"
        self._outputs: dict[subprocess.Popen[bytes], Path] = {}

    def document(self, jobs: list[dict[str, Any]], **queue: Any) -> Path:
        """Write a queue; what a test doesn't care about has a default."""
        path = self.root / f"{queue.get('queue_id', 'q')}.json"
        base = {"queue_id": "q", "queue_name": "q", "global_timeout": "5m", "on_failure": "stop"}
        full = [{"timeout": "1m", **job} for job in jobs]
        path.write_text(json.dumps({**base, "jobs": full, **queue}))
        return path

    def command(self, *words: str | Path, results: bool = False) -> list[str]:
        folders = ["--state-dir", str(self.state), "--log-dir", str(self.logs)]
        if results:
            folders += ["--results", str(self.results)]
        return [*RUNNER, *map(str, words), *folders]

    def start(self, command: list[str], **env: str) -> subprocess.Popen[bytes]:
        """Start a command that is ended with the test, if it is still there."""
        path = self.root / f"output-{len(self._outputs)}"
        with open(path, "wb") as output:
            process = subprocess.Popen(
                command,
                cwd=self.root,
                env={**os.environ, "RUNNER_RUN_DIR": str(self.root / "run"), **env},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        self._outputs[process] = path
        return process

    def output(self, process: subprocess.Popen[bytes]) -> str:
        """What it has printed so far."""
        return self._outputs[process].read_text(errors="replace")

    def finish(self, process: subprocess.Popen[bytes]) -> tuple[int, str]:
        """Its exit code and all it printed."""
        return process.wait(PATIENCE), self.output(process)

    def run(self, *words: str | Path, results: bool = False, **env: str) -> tuple[int, str]:
        """Run a command to its end."""
        return self.finish(self.start(self.command(*words, results=results), **env))

    def status(self) -> dict[str, Any]:
        """What ``runner status --json`` says."""
        done = subprocess.run(
            self.command("status", "--json"),
            capture_output=True,
            env={**os.environ, "RUNNER_RUN_DIR": str(self.root / "run")},
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def job(self, job_id: str) -> dict[str, Any]:
        """One job of the status."""
        return next(job for job in self.status()["jobs"] if job["job_id"] == job_id)

    def close(self) -> None:
        """End what the test started, by pid, and what its attempts left, by their token."""
        for process in self._outputs:
            process.kill()
            process.wait()
        for pid in self.attempts_alive():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def attempts_alive(self) -> list[int]:
        """Processes of this bed's attempts."""
        return attempts_alive(self.state)


def until(condition: Callable[[], Any], what: str = "the condition") -> Any:
    """Poll until the condition holds; its value."""
    deadline = time.monotonic() + PATIENCE
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what} never came about"
        time.sleep(0.01)  # reason: polls another process
    return value
