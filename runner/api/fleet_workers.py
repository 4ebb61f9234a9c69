"""Workers that an Executor starts on this machine, for itself."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from runner.fleet.cli.fleet_settings import DATABASE

LEASE = 30
"""Seconds of a lease: they look every 7.5 s whether their task was ended. A machine that sleeps
for longer begins its tasks anew."""

POLL = 5
"""Seconds of a poll; after an empty one, what killed workers had is taken over."""

GRACE = 45.0
"""Seconds until a worker that doesn't end is killed: its tasks have 30 s after SIGTERM."""

AGAIN = 5.0
"""Seconds between two starts in the place of one that has ended."""

_log = logging.getLogger("runner.executor")


@dataclass(slots=True)
class _Started:
    process: subprocess.Popen[bytes]
    since: float


class LocalWorkers:
    """``count`` processes, each with one task at a time. For one thread."""

    def __init__(self, count: int, job: str, address: str, folder: Path) -> None:
        """``folder``: the state of theirs, and their logs."""
        self._job = job
        self._environ: Mapping[str, str] = {**os.environ, DATABASE: address}
        self._folder = folder
        self._workers: list[_Started] = []
        folder.mkdir(parents=True, exist_ok=True)
        try:
            for number in range(1, count + 1):
                self._workers.append(self._start(number))
        except OSError:
            self.stop()
            raise

    def __len__(self) -> int:
        return len(self._workers)

    def _start(self, number: int) -> _Started:
        words = ["worker", "--job-name", self._job, "--shutdown-after-empty", "0"]
        words += ["--visibility-timeout", str(LEASE), "--poll-wait", str(POLL)]
        words += ["--state-dir", str(self._folder)]
        with open(self._log_of(number), "ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "runner.api.fleet_worker_process", *words],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=self._environ,
                start_new_session=True,  # Ctrl-C is the Executor's own affair
            )
        return _Started(process, time.monotonic())

    def _log_of(self, number: int) -> Path:
        return self._folder / f"worker-{number}.log"

    def replace_ended(self) -> None:
        """Start another in the place of each that has ended: none does by itself."""
        for at, each in enumerate(self._workers):
            code = each.process.poll()
            if code is None or time.monotonic() < each.since + AGAIN:
                continue
            told = self._log_of(at + 1).read_text(errors="replace").strip().rpartition("\n")[2]
            _log.warning(
                "a worker of job %s has ended (%s) and is replaced: %s", self._job, code, told
            )
            self._close(each)
            self._workers[at] = self._start(at + 1)

    def stop(self) -> None:
        """SIGTERM to all: what they do is given back; after GRACE they are killed."""
        for each in self._workers:
            if each.process.poll() is None:
                each.process.send_signal(signal.SIGTERM)
        until = time.monotonic() + GRACE
        for each in self._workers:
            try:
                each.process.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                each.process.kill()
                each.process.wait()
            self._close(each)
        self._workers.clear()

    def _close(self, each: _Started) -> None:
        with suppress(OSError):
            if each.process.stdin is not None:
                each.process.stdin.close()
