"""Some jobs of a queue, named by a pattern; folders that jobs start in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from runner.errors import ExitCode

DOCUMENT = {
    "queue_id": "q",
    "queue_name": "q",
    "global_timeout": "1m",
    "on_failure": "continue",
    "max_parallel_jobs": 4,
    "create_working_directory": True,
    "defaults": {"timeout": "20s"},
    "params": {"word": "first"},
    "jobs": [
        {
            "job_id": "a",
            "matrix": {"n": [1, 2]},
            "working_directory": "made/by/${{n}}",
            "command": ["echo $PARAM_WORD ${{n}} $JOB_ATTEMPT", "pwd > ${{n}}.txt"],
            "result_paths": ["${{n}}.txt"],
        },
        {"job_id": "b", "command": "cat made/by/*/*.txt", "depends_on": ["a"]},
        {
            "job_id": "c",
            "command": "true",
            "working_directory": "nowhere",
            "create_working_directory": False,
        },
    ],
}


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parts")
    (folder / "q.json").write_text(json.dumps(DOCUMENT))
    done = runner(folder, "run", "q.json", "--results", "stored", "--set", "word=second")
    assert done.returncode == ExitCode.QUEUE_FAILED, done.stderr
    return folder


def runner(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    verb, *more = words
    folders = ["--state-dir", "state", "--log-dir", "logs"]
    return subprocess.run(
        [sys.executable, "-m", "runner", verb, *more, *folders],
        cwd=folder,
        env={**os.environ, "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_folders_are_made_where_that_is_said(ran: Path) -> None:
    """A job would fail for want of its own folder, or one would appear by a typing error."""
    assert (ran / "made/by/2/2.txt").read_text() == f"{ran}/made/by/2\n"
    assert not (ran / "nowhere").exists()


def test_what_was_given_is_beside_what_ran(ran: Path) -> None:
    """Nobody could say which document a matrix had been written in."""
    for folder in (ran / "state/queues/q", ran / "stored"):
        given = json.loads((folder / "queue.given.json").read_text())
        assert given["params"] == {"word": "second"}
        assert len(given["jobs"]) == 3
        plain = json.loads((folder / "queue.json").read_text())
        assert [job["job_id"] for job in plain["jobs"]] == ["a.1", "a.2", "b", "c"]


def test_a_pattern_chooses_jobs(ran: Path) -> None:
    """The jobs of a matrix would have to be named one by one."""
    table = runner(ran, "status", "--job", "a.*").stdout
    assert "a.1" in table and "a.2" in table and "nowhere" not in table
    rows = json.loads(runner(ran, "status", "--job", "a.*", "--json").stdout)["jobs"]
    assert [row["job_id"] for row in rows] == ["a.1", "a.2"]
    logs = runner(ran, "logs", "a.?")
    assert logs.stdout == "==> a.1 <==\nsecond 1 1\n==> a.2 <==\nsecond 2 1\n", logs.stderr
    fetched = runner(ran, "results", "--job", "a.*", "--output", "out", "--no-logs")
    assert fetched.returncode == ExitCode.DONE, fetched.stderr
    assert sorted(path.name for path in (ran / "out").rglob("*.txt")) == ["1.txt", "2.txt"]


@pytest.mark.parametrize(
    "words",
    [
        ("status", "--job", "z*"),
        ("logs", "z*"),
        ("retry", "z*"),
        ("cancel", "z*"),
        ("results", "--job", "z*"),
    ],
)
def test_a_pattern_that_matches_nothing_is_an_error(ran: Path, words: tuple[str, ...]) -> None:
    """A typing error would be taken for done."""
    done = runner(ran, *words)
    assert done.returncode in (ExitCode.NOT_FOUND, ExitCode.USAGE)
    assert 'matches "z*"' in done.stderr


def test_a_held_job_starts_when_it_is_released(tmp_path: Path) -> None:
    """Nobody could say that it may start; or nobody would have to."""
    held = {"job_id": "publish", "command": "echo out > out.txt", "timeout": "9s", "hold": True}
    head = {"queue_id": "q", "queue_name": "q", "global_timeout": "1m", "on_failure": "stop"}
    (tmp_path / "q.json").write_text(json.dumps({**head, "jobs": [held]}))
    command = [sys.executable, "-m", "runner", "run", "q.json", "--state-dir", "state"]
    with subprocess.Popen([*command, "--log-dir", "logs"], cwd=tmp_path, stderr=-3) as run:
        done = runner(tmp_path, "release", "pub*")
        while done.returncode != ExitCode.DONE and run.poll() is None:
            done = runner(tmp_path, "release", "pub*")
        assert run.wait(30) == ExitCode.DONE
    assert (tmp_path / "out.txt").read_text() == "out\n"
    over = runner(tmp_path, "release", "publish")
    assert "does not wait for a release: it is completed" in over.stderr


def test_a_part_of_a_queue_runs_and_the_rest_later(tmp_path: Path) -> None:
    """A run for one figure would make all; or the rest could not be made afterwards."""
    jobs = [{"job_id": name, "command": f"touch {name}", "timeout": "9s"} for name in "abcd"]
    jobs[2]["depends_on"] = ["a"]  # type: ignore[assignment]
    head = {"queue_id": "q", "queue_name": "q", "global_timeout": "1m", "on_failure": "stop"}
    (tmp_path / "q.json").write_text(json.dumps({**head, "jobs": jobs}))
    assert 'there is no job "z"' in runner(tmp_path, "run", "q.json", "--until", "z").stderr
    done = runner(tmp_path, "run", "q.json", "--until", "c")
    assert done.returncode == ExitCode.DONE, done.stderr
    assert [name for name in "abcd" if (tmp_path / name).exists()] == ["a", "c"]
    assert runner(tmp_path, "run", "q.json", "--only", "[d]").returncode == ExitCode.DONE
    assert not (tmp_path / "b").exists()
    assert runner(tmp_path, "run", "q.json").returncode == ExitCode.DONE
    assert (tmp_path / "b").exists()


def test_jobs_of_a_pattern_run_again(ran: Path) -> None:
    """What depends on a matrix could only be made again job by job."""
    done = runner(ran, "retry", "--completed", "--with-dependants", "a.*")
    assert done.returncode == ExitCode.DONE, done.stderr
    rows = json.loads(runner(ran, "status", "--json").stdout)["jobs"]
    assert [row["status"] for row in rows] == ["pending", "pending", "pending", "failed"]
    refused = runner(ran, "cancel", "c*")
    assert refused.returncode != ExitCode.DONE and "has ended already" in refused.stderr
