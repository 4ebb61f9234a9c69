"""An attempt's containers in an image that has only Python: runner comes by its bundle."""

from __future__ import annotations

import os
import subprocess
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest
from batch_attempt import Attempts
from s3_endpoint import Endpoint

from runner.batch.container.commands import (
    agent_command,
    main_command,
    stage_command,
    store_bundle,
)
from runner.batch.records import StoredResult
from runner.bundle.build import build
from runner.bundle.source import of_package


@pytest.fixture
def queue(
    endpoint: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Attempts]:
    for name, value in endpoint.env.items():
        monkeypatch.setenv(name, value)
    made = Attempts(endpoint, tmp_path)
    yield made
    made.close()


def test_the_bundle_is_all_that_a_plain_python_lacks(
    queue: Attempts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The agent image would have to be one of ours, and of the driver's version."""
    monkeypatch.chdir(tmp_path)  # Python looks for modules where it is called, too
    plain = tmp_path / "plain"
    venv.create(plain, with_pip=False, symlinks=True)
    python = str(plain / "bin" / "python3")
    lacks = subprocess.run([python, "-c", "import runner"], capture_output=True, check=False)
    assert lacks.returncode == 1
    bundle = build(of_package(), os.uname().machine, tmp_path / "bundle")
    environment = {name: value for name, value in os.environ.items() if name[:4] == "AWS_"}
    environment |= {
        "PATH": f"{plain / 'bin'}:{os.defpath}",
        "RUNNER_BUNDLE": store_bundle(queue.url, bundle),
    }
    attempt = queue.submit("echo hi > o.txt", result_paths=(StoredResult("*.txt"),))
    environment |= attempt.environment
    assert subprocess.run(stage_command(), env=environment, timeout=120).returncode == 0
    main = subprocess.Popen(main_command(), env=environment, start_new_session=True)
    assert subprocess.run(agent_command(), env=environment, timeout=60).returncode == 0
    assert main.wait(10) == 0
    assert attempt.stored is not None and attempt.stored.ok
    assert queue.read("jobs/job/o.txt") == b"hi\n"
