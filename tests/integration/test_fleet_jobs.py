"""What a job's tasks run: an installed package of the job's name, a template in YAML or JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from runner.errors import UsageError
from runner.fleet.cli.main import run_command
from runner.fleet.records import FleetJob, FleetTask, JobOptions, TaskState
from runner.fleet.task_document import document_of

PROGRAM = [sys.executable, "-c", "from runner.fleet.cli.main import main; main()"]

MODULE = """
import json, os

class Work:
    @staticmethod
    def measure():
        print("measuring", os.environ["W_ID"], os.environ["I_ID"])
        with open(os.environ["RUNNER_TASK_METRICS"], "w") as file:
            json.dump({"total_images": 3, "nb_errors": 0}, file)
        return 0 if os.environ["I_ID"] != "I2" else 3
"""


def wheel(folder: Path, name: str, points: str) -> Path:
    """A package that offers jobs, as its maintainer would publish it."""
    path = folder / f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as made:
        made.writestr(f"{name}.py", MODULE)
        made.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        tags = "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        made.writestr(f"{info}/WHEEL", tags)
        made.writestr(f"{info}/entry_points.txt", f"[runner.fleet.jobs]\n{points}\n")
        made.writestr(f"{info}/RECORD", "")
    return path


@pytest.mark.long
def test_an_installed_package_is_the_job_of_its_name(tmp_path: Path) -> None:
    """The guide's `bec jobs create --name ldv1`, without a command, could not be run at all."""
    site = tmp_path / "site"
    package = wheel(tmp_path, "line_detection", "ldv1 = line_detection:Work.measure")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    subprocess.run([*pip, "--target", str(site), str(package)], check=True, timeout=120)
    kept = {name: v for name, v in os.environ.items() if not name.startswith(("RUNNER", "BEC"))}
    env = {**kept, "RUNNER_STATE_DIR": str(tmp_path / "state"), "PYTHONPATH": str(site)}

    def bec(*words: str, code: int = 0) -> str:
        done = subprocess.run(
            [*PROGRAM, *words], cwd=tmp_path, env=env, text=True, timeout=60, check=False,
            stdin=subprocess.DEVNULL, capture_output=True,
        )  # fmt: skip
        assert done.returncode == code, done.stderr
        return done.stdout if not code else done.stderr

    bec("jobs", "create", "--name", "ldv1", "--terminal-on-codes", "3")
    bec("queue", "enqueue", "--job-name", "ldv1", "--volume", "W1,I1", "--volume", "W1,I2")
    bec("worker", "--job-name", "ldv1", "--poll-wait", "0.1", "--shutdown-after-empty", "1")
    failed, done = json.loads(bec("jobs", "tasks", "ldv1", "--json"))
    assert (done["status"], done["total_images"]) == ("done", 3)
    assert (failed["status"], failed["reason"][-13:]) == ("terminal_failed", "exit status 3")
    assert bec("logs", "W1/I1", "--job-name", "ldv1", "--stdout") == "measuring W1 I1\n"
    assert "no installed package offers it" in bec("jobs", "create", "--name", "ocr", code=2)


@pytest.mark.parametrize(
    ("points", "told"),
    [
        ({"a": "x = a:f", "b": "x = b:f"}, "offered by several installed packages: a:f and b:f"),
        ({"a": "x = a"}, "the entry point a names no function"),
    ],
)
def test_packages_that_offer_a_job_badly_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, points: dict[str, str], told: str
) -> None:
    """It would depend on the order of a folder which of two packages a task runs."""
    for name, line in points.items():
        with zipfile.ZipFile(wheel(tmp_path, name, line)) as made:
            made.extractall(tmp_path / "site")
    monkeypatch.syspath_prepend(tmp_path / "site")
    with pytest.raises(UsageError, match=told):
        document_of(FleetJob(1, "x", "{}", JobOptions()))


YAML = """\
# how one sample is worked on
queue_name: sample
global_timeout: 1h
on_failure: stop
params: {sample: none, lanes: 1}
jobs:
  - job_id: align
    command: echo "${{params.sample}} on ${{params.lanes}}" > out.txt
    timeout: 1m
    result_paths: [out.txt]
  - job_id: count
    depends_on: [align]
    command: |
      echo '{"total_images": 7}' > "$RUNNER_TASK_METRICS"
    timeout: 1m
"""


def test_a_template_may_be_yaml(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A document that `runner run` takes would be refused as a template, or read as JSON."""
    monkeypatch.setenv("RUNNER_FLEET", str(tmp_path / "fleet"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sample.yaml").write_text(YAML)
    create = ["jobs", "create", "--name", "j", "--template", "sample.yaml"]
    assert run_command(create, "runner-fleet") == 0
    job = FleetJob(1, "j", "{}", JobOptions(template=YAML))
    task = FleetTask(7, 1, "a", {"sample": "S1"}, TaskState.RUNNING, 2, 0, 0, 2)
    document = document_of(job, task)
    assert [each.job_id for each in document.jobs] == ["align", "count"]
    assert document.jobs[0].command == 'echo "S1 on 1" > out.txt'
    (tmp_path / "sample.yaml").write_text(YAML.replace("timeout: 1m\n", "timeuot: 1m\n", 1))
    create[3] = "k"
    capsys.readouterr()
    assert run_command(create, "runner-fleet") == 2
    told = capsys.readouterr().err
    assert "timeuot" in told and "timeout" in told, "it names the key, and the nearest that is one"


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.json", "{", "line 1"),
        ("a.json", '{"queue_name": "t"', "line 1"),
        ("a.json", "[1]", "must be"),
        ("a.yaml", "a: [", "column 1"),
        ("a.yaml", "{queue_name: t}", "jobs"),
    ],
)
def test_a_template_that_is_none_is_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    text: str,
    told: str,
) -> None:
    """An internal error would be the answer, or a job be made whose tasks all fail."""
    monkeypatch.setenv("RUNNER_FLEET", str(tmp_path / "fleet"))
    (tmp_path / name).write_text(text)
    words = ["jobs", "create", "--name", "j", "--template", str(tmp_path / name)]
    assert run_command(words, "runner-fleet") == 2
    found = capsys.readouterr().err
    assert told in found and "internal error" not in found, found
    assert not (tmp_path / "fleet").exists(), "nothing is written"
