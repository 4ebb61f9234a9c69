"""The examples that install scikit-learn, run with the real command, and the ML pipeline also on
AWS Batch in real containers; their models really learn.

One venv serves all of them: the ML pipeline's own first job makes it.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import docker_host
import pytest
from batch_account import BatchAccount
from batch_server import MotoServices, Settings
from batch_server.docker_containers import Docker
from batch_server.dockerd import DockerDaemon
from example import EXAMPLES, Example, copy_folder, environment, read_json
from on_batch import OnBatch, instant, real_commands
from s3_endpoint import Endpoint

pytestmark = pytest.mark.slow

ML_JOBS = ["install", "preprocess", "train", "evaluate", "export"]
MODELS = ["forest", "logistic", "knn"]


def wait_until(condition: Callable[[], object], process: subprocess.Popen[Any]) -> None:
    """Poll until the condition holds; fail if the process ends before, or after 120 s."""
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, f"ended early with {process.returncode}"
        assert time.monotonic() < deadline
        time.sleep(0.02)


CopyWithVenv = Callable[[str], Example]


@pytest.fixture(scope="module")
def ml(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Example]:
    """The ML pipeline after one undisturbed run, with the venv that its own first job made."""
    example = copy_folder("ml-pipeline", tmp_path_factory.mktemp("ml"))
    assert example.run() == 0
    yield example
    shutil.rmtree(example.folder / ".venv")  # 300 MB, and pytest keeps the folders of three runs


@pytest.fixture
def copy_with_venv(tmp_path: Path, ml: Example) -> Iterator[CopyWithVenv]:
    """Copy an example with a venv: its `install` still runs, but finds most of the work done."""

    def copy(name: str) -> Example:
        example = copy_folder(name, tmp_path)
        shutil.copytree(
            ml.folder / ".venv", example.folder / ".venv", symlinks=True, copy_function=link_library
        )
        return example

    yield copy
    for venv in tmp_path.glob("*/.venv"):
        shutil.rmtree(venv)


def link_library(source: str, target: str) -> None:
    """Link what is large and only ever replaced; copy what venv writes anew in its place."""
    if "/.venv/lib/" in source and not os.path.islink(source):
        os.link(source, target)
    else:
        shutil.copy2(source, target, follow_symlinks=False)


def measured(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A training history less the attempt that each epoch was trained by."""
    return [{key: value for key, value in epoch.items() if key != "attempt"} for epoch in history]


def test_ml_pipeline_learns(ml: Example) -> None:
    """The ML example wouldn't install what it needs, or its model would know nothing."""
    assert ml.statuses() == dict.fromkeys(ML_JOBS, "completed")
    jobs = ml.results / "jobs"
    metrics = read_json(jobs / "evaluate/eval_metrics.json")
    assert metrics["accuracy"] > 0.9
    matrix = read_json(jobs / "evaluate/confusion_matrix.json")["rows_true_columns_predicted"]
    right = sum(matrix[digit][digit] for digit in range(10))
    assert sum(map(sum, matrix)) == metrics["rows"] == 360
    assert right / 360 == pytest.approx(metrics["accuracy"], abs=1e-4)
    history = read_json(jobs / "train/training_history.json")
    assert [epoch["epoch"] for epoch in history] == list(range(1, 31))
    assert history[-1]["validation_loss"] < history[0]["validation_loss"]
    assert read_json(jobs / "preprocess/metadata.json")["rows"]["test"] == 360


def test_the_exported_model_works_without_the_example(ml: Example, tmp_path: Path) -> None:
    """The exported model would need our scripts, or its plain numbers would predict otherwise."""
    for name in ("model.joblib", "model.json"):
        shutil.copy(ml.results / "jobs/export" / name, tmp_path)
    script = """
import json, joblib, numpy as np
from sklearn.datasets import load_digits
x, y = load_digits(return_X_y=True)
found = joblib.load("model.joblib").predict(x)
m = {key: np.array(value) for key, value in json.load(open("model.json")).items()}
scores = (x - m["mean"]) / m["scale"] @ m["coefficients"].T + m["intercepts"]
assert (m["classes"][scores.argmax(axis=1)] == found).all()
assert (found == y).mean() > 0.9
"""
    python = ml.folder / ".venv/bin/python"
    subprocess.run([python, "-c", script], cwd=tmp_path, check=True, timeout=120)


def test_a_training_cut_by_ctrl_c_goes_on_and_ends_with_the_same_model(
    ml: Example, copy_with_venv: CopyWithVenv
) -> None:
    """An interruption would cost the epochs already trained, or change the model."""
    example = copy_with_venv("ml-pipeline")
    checkpoint = example.folder / "work/models/checkpoint.joblib"
    with subprocess.Popen(
        example.command(), cwd=example.folder, env=environment(EPOCH_PAUSE="0.3")
    ) as run:
        wait_until(checkpoint.exists, run)
        run.send_signal(signal.SIGINT)
    assert run.returncode == 130
    assert example.state["status"] == example.job("train")["status"] == "interrupted"

    assert example.run() == 0
    train = example.job("train")
    assert (train["attempt"], train["interruptions"]) == (2, 1)
    assert example.job("preprocess")["attempt"] == 1
    history = read_json(example.results / "jobs/train/training_history.json")
    attempts = [epoch["attempt"] for epoch in history]
    assert attempts == sorted(attempts)
    assert attempts.count(1) >= 5
    assert attempts[-1] == 2
    exported = "jobs/export/model.json"
    assert read_json(example.results / exported) == read_json(ml.results / exported)


@contextmanager
def trainer(
    ml: Example, output: Path, attempt: int, *flags: str, **env: str
) -> Iterator[subprocess.Popen[str]]:
    """The training script alone, on the data of the ML pipeline; killed at the end."""
    script = [".venv/bin/python", "-u", "train.py", "--data", "work/processed"]
    with subprocess.Popen(
        [*script, "--output", str(output), *flags],
        cwd=ml.folder,
        env=environment(JOB_ATTEMPT=str(attempt), OMP_NUM_THREADS="1", **env),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_training_killed_outright_goes_on_from_its_last_checkpoint(
    ml: Example, tmp_path: Path
) -> None:
    """A power cut would cost the whole training."""
    with trainer(ml, tmp_path, 1, EPOCH_PAUSE="0.1") as process:
        wait_until((tmp_path / "checkpoint.joblib").exists, process)
    with trainer(ml, tmp_path, 2) as process:
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    history = read_json(tmp_path / "training_history.json")
    kept = sum(epoch["attempt"] == 1 for epoch in history)
    assert kept in (5, 10)
    assert output.startswith(f"checkpoint: {kept} of 30 epochs are done\n")
    undisturbed = read_json(ml.results / "jobs/train/training_history.json")
    assert measured(history) == measured(undisturbed)


def test_a_training_saves_at_once_when_the_machine_is_leaving(ml: Example, tmp_path: Path) -> None:
    """The two minutes of a spot notice would pass unused; or the trainer would fail by itself."""
    notice = tmp_path / "notice"
    checkpoint = tmp_path / "models/checkpoint.joblib"
    rare = ("--checkpoint-every", "1000", "--epochs", "1000")
    with trainer(ml, checkpoint.parent, 1, *rare, RUNNER_SPOT_NOTICE=str(notice)) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("checkpoint: 0 ")
        assert json.loads(process.stdout.readline())["epoch"] == 1
        assert not checkpoint.exists()
        notice.touch()
        wait_until(checkpoint.exists, process)
        process.terminate()
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert output.splitlines()[-1].startswith("checkpoint saved after epoch ")


def test_ensemble_of_three_models(copy_with_venv: CopyWithVenv) -> None:
    """The three models wouldn't be combined, or two at once would disturb each other."""
    example = copy_with_venv("ensemble-pipeline")
    assert example.run() == 0
    assert set(example.statuses().values()) == {"completed"}
    metrics = read_json(example.results / "jobs/ensemble/ensemble_metrics.json")
    assert metrics["accuracy"] > 0.9
    assert set(metrics["models"]) == set(MODELS)
    report = read_json(example.results / "jobs/report/report.json")
    assert report == metrics["models"] | {"ensemble": metrics["accuracy"]}
    assert (example.results / "jobs/ensemble/ensemble.joblib").stat().st_size > 0


def test_ensemble_with_a_model_that_fails(copy_with_venv: CopyWithVenv) -> None:
    """One failed model would stop the others, or an ensemble of two would pass for one of three."""
    example = copy_with_venv("ensemble-pipeline")
    assert example.run(BREAK_MODEL="logistic") == 100
    assert example.statuses() == {
        "install": "completed",
        "preprocess": "completed",
        "train_forest": "completed",
        "train_logistic": "failed",
        "train_knn": "completed",
        "ensemble": "skipped",
        "report": "completed",
    }
    assert example.job("ensemble")["reason"] == "dependency 'train_logistic' failed"
    report = read_json(example.results / "jobs/report/report.json")
    assert report["logistic"] is report["ensemble"] is None
    assert report["forest"] > 0.9
    assert report["knn"] > 0.9


SHARED = "efs:fs-0123456789abcdef0:/data:/models:/results"


@pytest.fixture
def on_batch(
    daemon: DockerDaemon,
    endpoint: Endpoint,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ml: Example,
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
    ml: Example,
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
