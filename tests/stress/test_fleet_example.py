"""The Quick Start of the guide, as printed, with a worker that measures lines on page images."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from s3_endpoint import Endpoint
from sqs_server import SqsServer

ROOT = Path(__file__).parents[2]
BEC = [sys.executable, "-c", "from runner.fleet.cli.main import main; main()"]

VOLUMES = """W22084,I0886
W22084,I0887
W1KG13780,I1KG15541
"""


@pytest.fixture(params=["calm", "moto"])
def bec(request: pytest.FixtureRequest, postgres: Any, endpoint: Endpoint, tmp_path: Path) -> Any:
    """The command; its queues are in the tests' own SQS, or in moto's."""
    server = SqsServer()
    bucket = endpoint.bucket()
    kept = {n: v for n, v in os.environ.items() if not n.startswith(("RUNNER", "BEC", "AWS"))}
    env = {**kept, **endpoint.env, "HOME": str(tmp_path)}
    if request.param == "calm":
        env |= server.env
    name = postgres.database().rpartition("/")[2]
    (tmp_path / ".env").write_text(
        f"BEC_SQL_HOST=127.0.0.1\nBEC_SQL_PORT={postgres.port}\nBEC_SQL_USER=postgres\n"
        f"BEC_SQL_DATABASE={name}\nBEC_REGION=us-east-1\nBEC_DEST_S3_BUCKET={bucket}\n"
    )

    def call(*words: str) -> str:
        done = subprocess.run(
            [*BEC, *words], cwd=tmp_path, env=env, text=True, timeout=120,
            stdin=subprocess.DEVNULL, capture_output=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0 and not done.stderr, done.stderr
        return done.stdout

    call.bucket, call.database, call.folder = bucket, name, tmp_path  # type: ignore[attr-defined]
    yield call
    server.close()


@pytest.mark.share
def test_the_guides_quick_start(bec: Callable[..., str], postgres: Any, endpoint: Endpoint) -> None:
    """Whoever follows it would be stopped at one of its steps."""
    folder: Path = bec.folder  # type: ignore[attr-defined]
    with postgres.connect(bec.database) as connection:  # type: ignore[attr-defined]
        connection.execute((ROOT / "runner/fleet/schema.sql").read_bytes())
    worker = ROOT / "examples/fleet/measure_lines.py"
    config = '{"pages": 3, "threshold": 128}'
    told = bec(
        "jobs", "create", "--name", "ldv1", "--command", f"{sys.executable} {worker}",
        "--config-text", config,
    )  # fmt: skip
    assert told.endswith("✓ Created job: id=1, name=ldv1\n")
    (folder / "volumes.txt").write_text(VOLUMES)
    assert "Enqueued 3" in bec("queue", "enqueue", "--job-name", "ldv1", "--file", "volumes.txt")
    told = bec("worker", "--job-name", "ldv1", "--poll-wait", "1", "--shutdown-after-empty", "1")
    assert told.count("Successfully processed message: ") == 3
    stats = bec("queue", "stats", "--job-name", "ldv1")
    assert "Messages Available" in stats
    told = bec("jobs", "stats", "ldv1")
    assert "Total Tasks: 3\n  Total Images: 9\n  Total Errors: 0\n" in told
    assert "W22084/I0886" in bec("jobs", "tasks", "ldv1", "--status", "done")
    assert "3 pages" in bec("logs", "W22084/I0886", "--job-name", "ldv1", "--stdout")
    bucket: str = bec.bucket  # type: ignore[attr-defined]
    keys = endpoint.keys(bucket, "ldv1/W22084/I0886/")
    marker = json.loads(endpoint.read(bucket, "ldv1/W22084/I0886/success.json"))
    assert marker["metrics"] == {"total_images": 3, "nb_errors": 0}
    assert f"ldv1/W22084/I0886/{marker['run']}/jobs/task/lines.json" in keys
