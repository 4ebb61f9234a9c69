"""The ML pipeline on AWS Batch, in real containers, in both ways of handing on files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import docker_host
import pytest
from batch_account import BatchAccount
from batch_server import MotoServices, Settings
from batch_server.docker_containers import Docker
from batch_server.dockerd import DockerDaemon
from example import EXAMPLES, Example, read_json
from on_batch import OnBatch, instant, real_commands
from s3_endpoint import Endpoint
from test_examples_ml import ml  # noqa: F401

pytestmark = pytest.mark.slow

SHARED = "efs:fs-0123456789abcdef0:/data:/models:/results"


@pytest.fixture
def on_batch(
    daemon: DockerDaemon,
    endpoint: Endpoint,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ml: Example,  # noqa: F811
) -> Iterator[OnBatch]:
    """The image has the example's scripts in /app, and what its own first job has installed."""
    settings = Settings(second_s=1.0, delays=instant(1.0), rates={})
    docker = Docker(daemon.client, endpoint.url, settings.region)
    account = BatchAccount(docker, settings, MotoServices(endpoint.url))
    for name, value in {**endpoint.env, **account.env}.items():
        monkeypatch.setenv(name, value)
    venv = str(ml.folder / ".venv")
    docker_host.lend_python(
        daemon,
        monkeypatch,
        endpoint.env,
        folders={"/app": str(ml.folder), venv: venv},
        first=[f"{venv}/bin"],
    )
    made = OnBatch(account, endpoint.bucket(), tmp_path, real_commands)
    made.target = replace(made.target, image=docker_host.IMAGE)
    yield made
    account.close()


@pytest.mark.parametrize("name", ["batch.json", "shared.json"])
def test_the_ml_pipeline_comes_to_the_same_on_batch(
    name: str,
    on_batch: OnBatch,
    ml: Example,  # noqa: F811
    endpoint: Endpoint,
) -> None:
    """A model that is trained on AWS Batch would be another one, or find no data."""
    if name == "shared.json":
        on_batch.target = replace(on_batch.target, shared=SHARED)
    document = json.loads((EXAMPLES / "ml-pipeline" / name).read_text())
    ended = on_batch.run_document({**document, "queue_id": "q"})
    state = on_batch.state()
    assert {each["status"] for each in state.values()} == {"completed"}, (ended, state)
    for job, file in (
        ("preprocess", "metadata.json"),
        ("train", "training_history.json"),
        ("evaluate", "eval_metrics.json"),
        ("evaluate", "confusion_matrix.json"),
        ("export", "model.json"),
    ):
        there: Any = json.loads(endpoint.read(on_batch.bucket, f"queues/q/jobs/{job}/{file}"))
        assert there == read_json(ml.results / "jobs" / job / file), file
