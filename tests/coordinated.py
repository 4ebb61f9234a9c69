"""A queue with a coordinator, which runs here as a process: its jobs are processes, too.

What is on AWS Batch in truth (the coordinator's job, the jobs) is left out; what a client sees of
the queue is not: the result store has all of it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runner.model.document import dump_document, read_document
from runner.results.layout import Layout
from runner.targets.batch.launch_record import BatchLaunch

_COORDINATE = """
import os, sys
from pathlib import Path
from runner.cli.show.run_view import watcher_for
from runner.model.settings import load_settings
from runner.service.coordinator import CoordinatorRequest, coordinate
from runner.service.queue_repository import QueueRepository
from runner.service.session import RunContext

store, folder = sys.argv[1], Path(sys.argv[2])
settings = load_settings(
    os.environ, root=False, home=folder, overrides={"state_dir": folder / "state"}
)
context = RunContext({"PATH": os.environ["PATH"]}, None, heartbeat=0.5)
repository = QueueRepository(settings.state_dir, settings.log_dir)
watcher = watcher_for(json_output=False)
request = CoordinatorRequest(store, context, own_job=os.environ.get("AWS_BATCH_JOB_ID"))
sys.exit(coordinate(repository, settings, request, watcher))
"""


class Coordinated:
    """``store``: an address in S3, or a folder; ``client``: of the S3 that it is in."""

    def __init__(self, folder: Path, client: Any, bucket: str, env: Mapping[str, str]) -> None:
        self._folder = folder
        self._client = client
        self._bucket = bucket
        self._env = {**env, "PATH": "/usr/bin:/bin", "RUNNER_CONTROL_INTERVAL": "100ms"}
        self._hosts = 0

    def launch(self, document: Path, queue_id: str = "q") -> str:
        """Put there what a launch puts there; the address of the queue's store."""
        store = f"s3://{self._bucket}/queues/{queue_id}"
        queue = read_document(document).with_id(queue_id)
        launch = BatchLaunch(queue_id, store, "us-east-1", "queue", "launch1")
        for key, data in (
            (Layout.document_key, dump_document(queue).encode()),
            (Layout.coordinator_key, launch.encoded()),
        ):
            key = f"queues/{queue_id}/{key}"
            self._client.put_object(Bucket=self._bucket, Key=key, Body=data)
        return store

    def start(self, store: str, job: str = "job-1") -> subprocess.Popen[str]:
        """A coordinator on a host that knows nothing."""
        self._hosts += 1
        host = self._folder / f"host-{self._hosts}"
        host.mkdir(parents=True)
        return subprocess.Popen(
            [sys.executable, "-c", _COORDINATE, store, str(host)],
            env={**self._env, "AWS_BATCH_JOB_ID": job},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def state(self, store: str) -> dict[str, Any]:
        """queue-state.json as it is stored."""
        key = f"{store.removeprefix(f's3://{self._bucket}/')}/{Layout.state_key}"
        body = self._client.get_object(Bucket=self._bucket, Key=key)["Body"].read()
        found: dict[str, Any] = json.loads(body)
        return found
