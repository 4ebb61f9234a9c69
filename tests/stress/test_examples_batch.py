"""The example of single jobs on AWS Batch, run as it is against the tests' server and moto."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from batch_account import BatchAccount
from batch_server import CloudWatchLogs, Container, Delays, Processes, Running, Settings
from example import EXAMPLES
from s3_endpoint import Endpoint

SHORT = Delays(submitted=(0, 1), runnable=(0, 5), starting=(0, 1), ended=(0, 1))

AWS = f"""#!/bin/sh
# `aws s3 cp FROM TO`, as an image of tools has it
case $3 in
s3://*) exec "{sys.executable}" -m runner batch get "$3" "$4" ;;
*) exec "{sys.executable}" -m runner batch put "$3" "$4" ;;
esac
"""


class Tools(Processes):
    """An image that has the aws command, and credentials for it."""

    def __init__(self, endpoint: Endpoint, folder: Path) -> None:
        super().__init__(CloudWatchLogs(endpoint.url, "us-east-1"))
        (folder / "aws").write_text(AWS)
        (folder / "aws").chmod(0o755)
        path = f"{folder}:{os.defpath}"
        self._has = {**endpoint.env, "PATH": path, "HOME": str(folder)}

    def start(self, container: Container) -> Running:
        has = {**self._has, **container.environment}
        return super().start(replace(container, environment=has))


@pytest.mark.slow
def test_samples_are_run_by_verbs_alone(endpoint: Endpoint, tmp_path: Path) -> None:
    """A step (register, stage, submit, array, poll, end, collect) could not be done."""
    commands = tmp_path / "bin"
    commands.mkdir()
    (commands / "runner").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m runner "$@"\n')
    (commands / "runner").chmod(0o755)
    account = BatchAccount(Tools(endpoint, commands), Settings(delays=SHORT))
    bucket = endpoint.bucket()
    own = {name: value for name, value in os.environ.items() if not name.startswith("RUNNER_")}
    done = subprocess.run(
        ["bash", str(EXAMPLES / "batch-samples/run.sh")],
        env={
            **own, **endpoint.env, **account.env, "HOME": str(tmp_path), "BUCKET": bucket,
            "IMAGE": "tools", "RUN": "r1", "OUTPUT": str(tmp_path / "out"), "POLL": "200ms",
            "RUNNER_BATCH_JOB_QUEUE": "queue", "RUNNER_STATE_DIR": str(tmp_path / "state"),
            "PATH": f"{commands}:{os.environ['PATH']}",
        },
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    print(done.stdout, done.stderr, sep="\n")
    account.close()
    assert done.returncode == 0
    assert (tmp_path / "out/counts.txt").read_text() == "s1 3\ns2 2\ns3 1\n"
    assert (tmp_path / "out/sorted/s1.txt").read_text().split()[3::4] == ["3", "5", "7"]
    assert "counted 3 reads" in done.stdout
    assert "ended with 100, as asked" in done.stdout
    assert "with the reason: Terminated by BioAgent" in done.stdout
