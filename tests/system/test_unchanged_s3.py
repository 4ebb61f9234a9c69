"""Unchanged jobs of a queue whose results are in S3: brought back, kept, and not sent again."""

from __future__ import annotations

import json
import shutil

import pytest
from s3_endpoint import Endpoint
from world import World


@pytest.mark.long
def test_another_machine_takes_what_the_bucket_holds(world: World, endpoint: Endpoint) -> None:
    """Another machine would compute all of it again; or the results of the run be lost with it."""
    world.env.update(endpoint.env)
    bucket = endpoint.bucket()
    job = {
        "job_id": "a",
        "timeout": "1m",
        "command": "echo a >> ran; tr a-z A-Z < in > out",
        "inputs": ["in"],
        "result_paths": ["out"],
    }
    (world.home / "in").write_text("one\n")
    document = world.document(job, result_s3_bucket=bucket)
    assert world.call("run", document).returncode == 0
    for folder in (world.state, world.logs):
        shutil.rmtree(folder)
    (world.home / "out").unlink()
    for _ in range(2):
        done = world.call("run", document, "--fresh", "--reuse")
        assert done.returncode == 0, done.stderr
        assert "a completed reason=unchanged" in done.stdout
        assert (world.home / "out").read_text() == "ONE\n"
        assert (world.home / "ran").read_text() == "a\n"
        manifest = json.loads(endpoint.read(bucket, "queues/q/jobs/a/manifest.json"))
        state = json.loads(endpoint.read(bucket, "queues/q/queue-state.json"))
        assert (manifest["run_id"], manifest["attempt"]) == (state["run_id"], 0)
        names = {file["name"] for file in manifest["files"]}
        assert names == {"out", "stdout.log", "stderr.log"}, "with the logs of the run that made it"
    assert world.call("results", "--output", "got").returncode == 0
    assert (world.home / "got/a/out").read_text() == "ONE\n"
    (world.home / "in").write_text("two\n")
    assert world.call("run", document, "--fresh", "--reuse").returncode == 0
    assert endpoint.read(bucket, "queues/q/jobs/a/out") == b"TWO\n"
