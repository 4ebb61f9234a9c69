"""The Quick Start of the guide, as printed, and the examples of fleets: lines on page images, and a
model for each data set."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
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


# -- word for word ---------------------------------------------------------------------------------

SCRIPT = ROOT / "tests/data/bec_quick_start.sh"

# The package that the guide has installed: it offers the job `ldv1`.
PACKAGE = """
import json, os

def main():
    with open(os.environ["RUNNER_TASK_CONFIG"]) as file:
        config = json.load(file)
    assert config == {"use_gpu": True, "precision": "fp16", "batch_size": 16}, config
    assert os.path.exists(os.environ["RUNNER_MODEL_PATH"])
    assert "BEC_SQL_PASSWORD" not in os.environ
    with open(os.environ["RUNNER_TASK_METRICS"], "w") as file:
        json.dump({"total_images": 2, "nb_errors": 0}, file)
"""


def stand_in(folder: Path, model: Path, bucket: str, port: int, sqs: SqsServer) -> dict[str, str]:
    """A computer on which the guide's words mean something: `bec`, the package, the model."""
    programs, packages = folder / "bin", folder / "packages"
    about = packages / "ldv1-1.0.dist-info"
    for made in (programs, about):
        made.mkdir(parents=True)
    model.write_text("a model")
    (packages / "ldv1.py").write_text(PACKAGE)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: ldv1\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[runner.fleet.jobs]\nldv1 = ldv1:main\n")
    bec = programs / "bec"
    bec.write_text(f"#!{sys.executable}\nfrom runner.fleet.cli.main import main\nmain()\n")
    bec.chmod(0o755)
    kept = {n: v for n, v in os.environ.items() if not n.startswith(("RUNNER", "BEC", "AWS"))}
    return {
        **kept,
        **sqs.env,
        "HOME": str(folder),
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHONPATH": f"{packages}:{ROOT}",
        "PGPORT": str(port),
        "BEC_SQL_PORT": str(port),
    }


@pytest.mark.share
def test_the_quick_start_runs_word_for_word(
    postgres: Any, endpoint: Endpoint, tmp_path: Path
) -> None:
    """A line of it would be refused, or mean something else here than there."""
    bucket, model = endpoint.bucket(), tmp_path / "line-detection-v1.pth"
    sqs = SqsServer()
    env = endpoint.env | stand_in(tmp_path, model, bucket, postgres.port, sqs)
    here = {
        "postgres.example.com": "127.0.0.1",
        "bdrc-artifacts": bucket,
        "/models/line-detection-v1.pth": str(model),
    }
    text = SCRIPT.read_text()
    for theirs, ours in here.items():
        assert theirs in text
        text = text.replace(theirs, ours)
    blocks = text.split("\n# ---\n")[1:]
    (tmp_path / "schema.sql").write_bytes((ROOT / "runner/fleet/schema.sql").read_bytes())
    with postgres.connect() as connection:
        connection.execute("CREATE ROLE pipeline_user LOGIN")
        connection.execute("CREATE DATABASE pipeline_v1 OWNER pipeline_user")
    told = ""
    try:
        for block in blocks[1:]:
            # Each in a shell that has done the first: it exports variables.
            script = f"set -euo pipefail\n{blocks[0]}\n{block}"
            with subprocess.Popen(
                ["bash", "-c", script], cwd=tmp_path, env=env, text=True, start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            ) as shell:  # fmt: skip
                assert shell.stdout is not None
                said = ""
                for line in shell.stdout:
                    said += line
                    # By default it ends after two minutes without a task: as by Ctrl-C.
                    if "Successfully processed message: " in line and said.count(line[:12]) == 3:
                        os.killpg(shell.pid, signal.SIGINT)
            assert shell.returncode == 0 or "bec worker" in block, f"{block}\n{said}"
            told += said
    finally:
        sqs.close()
        with postgres.connect() as connection:
            connection.execute("DROP DATABASE pipeline_v1 WITH (FORCE)")
            connection.execute("DROP ROLE pipeline_user")
    assert "✓ Created job: id=1, name=ldv1" in told
    assert "Enqueued 3 tasks" in told
    assert "Total Tasks: 3\n  Total Images: 6\n  Total Errors: 0\n" in told
    assert sqs.errors() == []


# -- a model for each data set ---------------------------------------------------------------------


@pytest.mark.share
@pytest.mark.skipif(find_spec("sklearn") is None, reason="needs scikit-learn")
def test_the_ml_pipeline_as_a_template(tmp_path: Path) -> None:
    """A fleet of pipelines would need other documents than a queue, or mix up their data."""
    programs = Path(sys.executable).parent
    kept = {n: v for n, v in os.environ.items() if not n.startswith(("RUNNER", "BEC", "AWS"))}
    env = {**kept, "HOME": str(tmp_path), "PATH": f"{programs}:{os.environ['PATH']}"}
    database = str(tmp_path / "fleet")

    def fleet(*words: str) -> str:
        done = subprocess.run(
            [*BEC, *words, "--database", database], cwd=ROOT / "examples/ml-pipeline", env=env,
            text=True, timeout=240, stdin=subprocess.DEVNULL, capture_output=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    template = ROOT / "examples/fleet/ml-pipeline.json"
    fleet("jobs", "create", "--name", "models", "--template", str(template))
    rows = {"breast_cancer": 114, "digits": 360, "iris": 30, "wine": 36}
    for name in rows:
        fleet("queue", "enqueue", "--job-name", "models", "--item", f"id={name}", f"dataset={name}")
    fleet(
        "worker", "--job-name", "models", "--poll-wait", "0.2", "--shutdown-after-empty", "1",
        "--concurrency", "2",
    )  # fmt: skip
    done = json.loads(fleet("jobs", "tasks", "models", "--status", "done", "--json"))
    assert len(done) == len(rows)
    told = fleet("jobs", "stats", "models")
    assert f"Total Tasks: 4\n  Total Images: {sum(rows.values())}\n" in told
    for name, count in rows.items():
        (run,) = (tmp_path / "fleet").glob(f"**/{name}/[0-9]*")
        measured = json.loads((run / "jobs/evaluate/eval_metrics.json").read_text())
        assert (measured["rows"], measured["accuracy"] > 0.9) == (count, True), (name, measured)
        data = json.loads((run / "jobs/preprocess/metadata.json").read_text())
        assert data["dataset"] == f"scikit-learn {name}"
        assert (run / "jobs/train/model.joblib").stat().st_size > 500
