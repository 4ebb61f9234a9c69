"""One attempt's containers without Batch: stage and agent in this process, main.sh as a child.

A container is what its environment says: a folder of this machine is the volume.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from s3_endpoint import Endpoint

from runner.batch.container import stage
from runner.batch.container.agent import attend
from runner.batch.container.volume import Volume
from runner.batch.records import (
    BatchClaim,
    BatchEnd,
    BatchStored,
    BatchSubmission,
    EntryRun,
    parse_claim,
    parse_end,
    parse_stored,
    to_bytes,
)
from runner.core.attempts import token_of
from runner.results.layout import Layout
from runner.results.manifest import Manifest, parse_manifest
from runner.results.s3.store import S3Store

RUN = "0123456789abcdef"


class Attempts:
    """The attempts of one queue, in a bucket of its own below ``q``."""

    def __init__(self, endpoint: Endpoint, folder: Path) -> None:
        self.endpoint = endpoint
        self.bucket = endpoint.bucket()
        self.url = f"s3://{self.bucket}/q"
        self.store = S3Store(self.bucket, "q")
        self.layout = Layout()
        self._folder = folder
        self._starts = 0

    @classmethod
    def of(cls, queue: Attempts, prefix: str) -> Attempts:
        """Those of another queue in the same bucket."""
        made = cls.__new__(cls)
        made.__dict__.update(queue.__dict__)
        made.store = S3Store(queue.bucket, prefix)
        return made

    def close(self) -> None:
        self.store.close()

    def submit(self, command: str, job_id: str = "job", **fields: Any) -> Attempt:
        """The intent is stored; nothing runs yet."""
        self._starts += 1
        runs = fields.pop("runs", (EntryRun(fields.pop("attempt", 1), self._starts),))
        submission = BatchSubmission(
            self.url,
            fields.pop("run_id", RUN),
            fields.pop("epoch", 1),
            "q",
            job_id,
            runs,
            command,
            **{"timeout": 60.0, "term_grace": 5.0, "live_log_interval": 0.2, **fields},
        )
        token = token_of(submission.run_id, runs[0].start)
        self.store.put_bytes(self.layout.submission_key(token), to_bytes(submission))
        return Attempt(self, submission, token, self._folder / f"volume-{self._starts}")

    def manifest(self, name: str = "job") -> Manifest:
        data = self.store.get_bytes(self.layout.manifest_key(name))
        assert data is not None
        return parse_manifest(data)

    def read(self, key: str) -> bytes | None:
        return self.store.get_bytes(key)


class Attempt:
    """The Batch job of a submission; another one with a volume of its own is ``again``."""

    def __init__(
        self, queue: Attempts, submission: BatchSubmission, token: str, volume: Path
    ) -> None:
        self.queue = queue
        self.submission = submission
        self.token = token
        self.volume = Volume(str(volume))
        self.environment = {
            "RUNNER_VOLUME": str(volume),
            "RUNNER_SUBMISSION": f"{queue.url}/submissions/{token}.json",
            "AWS_BATCH_JOB_ID": f"job-of-{volume.name}",
            "AWS_BATCH_JOB_ATTEMPT": "1",
            "RUNNER_STOP_SECONDS": "12",
        }
        self.stopping = threading.Event()
        self.main: subprocess.Popen[bytes] | None = None

    def again(self, name: str) -> Attempt:
        """A second Batch job with the same submission."""
        return Attempt(self.queue, self.submission, self.token, self.volume.root.with_name(name))

    def child(self, index: int) -> Attempt:
        """An array's child."""
        made = self.again(f"{self.volume.root.name}-{index}")
        made.environment["AWS_BATCH_JOB_ARRAY_INDEX"] = str(index)
        return made

    def stage(self) -> int:
        return stage.stage(self.environment, self.volume)

    def start_main(self, shell: str = "/bin/sh", **more: str) -> subprocess.Popen[bytes]:
        """COMMAND's container, in a session of its own."""
        self.main = subprocess.Popen(
            [shell, str(self.volume.main / "main.sh")],
            env={**os.environ, "RUNNER_VOLUME": str(self.volume.root), **more},
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        return self.main

    def attend(self) -> int:
        return attend(self.environment, self.volume, self.stopping)

    def run(self, **more: str) -> int:
        """All of it, one after another; the job's exit code."""
        if (code := self.stage()) != stage.READY:
            return code
        main = self.start_main(**more)
        try:
            return self.attend()
        finally:
            self.end_main()
            assert main.returncode is not None

    def end_main(self) -> None:
        """As a container ends: with all that is in it."""
        if self.main is not None:
            try:
                os.killpg(self.main.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self.main.wait()

    # -- what is stored -----------------------------------------------------------------------

    def _read(self, key: str) -> bytes | None:
        return self.queue.read(key)

    @property
    def _where(self) -> tuple[str, int, str]:
        place = int(self.environment.get("AWS_BATCH_JOB_ARRAY_INDEX", "0"))
        entry = self.submission.entry(place)
        name = self.submission.job_id
        return (
            (name if entry.index is None else f"{name}[{entry.index}]"),
            entry.attempt,
            entry.token,
        )

    @property
    def claim(self) -> BatchClaim | None:
        data = self._read(self.queue.layout.claim_key(*self._where))
        return None if data is None else parse_claim(data)

    @property
    def end(self) -> BatchEnd | None:
        data = self._read(self.queue.layout.end_key(*self._where))
        return None if data is None else parse_end(data)

    @property
    def stored(self) -> BatchStored | None:
        data = self._read(self.queue.layout.stored_key(*self._where))
        return None if data is None else parse_stored(data)

    def log(self, stream: str = "stdout") -> bytes | None:
        prefix = self.queue.layout.job_prefix(self._where[0])
        return self._read(f"{prefix}{stream}.log")

    def adopted(self, epoch: int) -> None:
        """A later driver stores the intent with its own epoch."""
        self.submission = replace(self.submission, epoch=epoch)
        key = self.queue.layout.submission_key(self.token)
        self.queue.store.put_bytes(key, to_bytes(self.submission))

    def hold_lease(self, epoch: int) -> None:
        """A driver of this epoch has the queue."""
        held: Mapping[str, object] = {"run_id": RUN, "epoch": epoch, "holder": "h"}
        self.queue.store.put_bytes(Layout.lease_key, json.dumps(held).encode())
