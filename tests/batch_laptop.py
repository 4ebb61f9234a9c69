"""A laptop that launches queues on the tests' Batch, whose coordinators are jobs there."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from batch_account import BatchAccount
from batch_server import KeptLogs, MotoServices, Processes, Settings
from coordinator_job import JOB_ROLE
from on_batch import instant
from s3_endpoint import Endpoint

from runner.core.run_mode import RESUMED, RunMode
from runner.model.document import QueueSpec, parse_document
from runner.results.stores import open_store
from runner.targets.batch.connection import BatchConnection
from runner.targets.batch.coordinator_options import CoordinatorOptions
from runner.targets.batch.launch_record import BatchLaunch, BatchLaunches
from runner.targets.batch.launcher import CoordinatorLauncher
from runner.targets.batch.resolve import BatchWord

PROGRAM = Path(__file__).parent / "coordinator_job.py"
PATIENT = 60.0
ENDED = ("completed", "failed", "cancelled")


class Laptop:
    """Launches queues, and may be closed."""

    def __init__(self, endpoint: Endpoint, folder: Path) -> None:
        self.logs = KeptLogs()
        settings = Settings(delays=instant(), rates={})
        self.account = BatchAccount(Processes(self.logs), settings, MotoServices(endpoint.url))
        self.env = {**endpoint.env, **self.account.env}
        self.bucket = endpoint.bucket()
        self.folder = folder
        self.queue_id = "q"
        self.launches = BatchLaunches(folder / "launches")
        self.options = CoordinatorOptions("queue", "us-east-1", job_role=JOB_ROLE)

    def document(self, *jobs: dict[str, Any], **queue: Any) -> QueueSpec:
        base = {
            "queue_id": "q",
            "queue_name": "q",
            "global_timeout": "1h",
            "on_failure": "continue",
        }
        told = {**base, "result_s3_bucket": self.bucket, "max_parallel_jobs": 9, **queue}
        return parse_document(json.dumps({**told, "jobs": list(jobs)}).encode())

    @property
    def store(self) -> str:
        return f"s3://{self.bucket}/queues/{self.queue_id}"

    def launch(
        self, queue: QueueSpec, again: RunMode = RESUMED, *, new_id: bool = False
    ) -> BatchLaunch:
        with closing(open_store(self.store)) as store:
            launcher = CoordinatorLauncher(
                self.options,
                store,
                self.launches,
                lambda _: ([sys.executable, str(PROGRAM)], None),
                lambda line: None,
            )
            return launcher.launch(queue, launcher.check(), again, new_id=new_id)

    def connect(self) -> BatchConnection:
        return BatchConnection(BatchWord(self.store))

    def wait(self) -> dict[str, Any]:
        """The queue's summary once it has ended."""
        return self.until(lambda queue: queue["status"] in ENDED)

    def until(self, good: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        deadline = time.monotonic() + PATIENT
        while True:
            queue = self.connect().query("status", limit=0)["queue"]
            if good(queue):
                return queue
            assert time.monotonic() < deadline, f"{queue}\n{self.said()}"
            time.sleep(0.05)

    def said(self) -> str:
        """What all jobs have printed."""
        return "\n".join(line.decode() for lines in self.logs.lines.values() for line in lines)

    def jobs(self) -> dict[str, dict[str, Any]]:
        return {each["job_id"]: each for each in self.connect().query("status")["jobs"]}

    def kill_coordinator(self, job: str, number: int = signal.SIGKILL) -> bool:
        """Kill the attempt that runs now; False where none does."""
        wanted = f"AWS_BATCH_JOB_ID={job}".encode()
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                ours = os.fsencode(PROGRAM) in (folder / "cmdline").read_bytes().split(b"\0")
                if ours and wanted in (folder / "environ").read_bytes().split(b"\0"):
                    os.kill(int(folder.name), number)
                    return True
            except OSError:
                continue
        return False

    def kill_after(self, job: str, kills: list[tuple[float, int]]) -> int:
        """Send its attempts signals, each after so many seconds, while the queue hasn't ended; how
        many were sent."""
        sent = 0
        for wait, number in kills:
            time.sleep(wait)  # reason: the instants are the test
            if self.connect().query("status", limit=0)["queue"]["status"] in ENDED:
                break
            sent += self.kill_coordinator(job, number)
        return sent
