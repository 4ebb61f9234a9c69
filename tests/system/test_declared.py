"""What a job declares and doesn't leave is loud, wherever somebody may look."""

from __future__ import annotations

import json
import os
from typing import Any

from world import World


def job(name: str, command: str, *results: str | dict[str, Any]) -> dict[str, Any]:
    return {"job_id": name, "command": command, "timeout": "1m", "result_paths": list(results)}


def test_a_missing_result_is_in_the_state_the_table_and_the_exit_codes(world: World) -> None:
    """The model would be lost with the machine, and everything be green."""
    typo = job("typo", "mkdir -p out; echo model > out/model.pt", "output/*.pt")
    document = world.document(
        typo,
        job("may", "true", {"path": "*.csv", "optional": True}),
        job("fifo", "mkdir p; mkfifo p/q; echo 1 > p/r", "p/*"),
        {"job_id": "none", "command": "true", "timeout": "1m"},
    )
    done = world.call("run", document, "--results", "results")
    assert done.returncode == 105, done.stderr
    told = {
        name: (state.get("results_uploaded"), state["logs_uploaded"], state.get("result_error"))
        for name, state in world.jobs().items()
    }
    assert told.pop("fifo") == (True, True, f"'{world.home}/p/q' is a fifo: left out")
    assert told == {
        "typo": (False, True, "pattern 'output/*.pt' matched nothing"),
        "may": (True, True, None),
        "none": (None, True, None),
    }
    assert {state["status"] for state in world.jobs().values()} == {"completed"}
    status = world.call("status").stdout
    rows = {line.split()[0]: line for line in status.splitlines() if "completed" in line}
    assert " no " in rows["typo"] and "pattern 'output/*.pt' matched nothing" in rows["typo"]
    assert rows["none"].split()[-1] == "-" and " yes" in rows["may"]
    assert world.call("wait").returncode == 105
    fetched = world.call("results", "--output", "got")
    assert fetched.returncode == 105
    assert "job typo: pattern 'output/*.pt' matched nothing" in fetched.stderr
    assert world.call("results", "--output", "got", "--logs-only").returncode == 0
    assert world.call("run", document, "--results", "results").returncode == 105

    # A file that was written since is another's; one that was moved to its place is the job's.
    (world.home / "output").mkdir()
    (world.home / "output/later.pt").write_text("not this job's")
    os.utime(world.home / "output/later.pt", (2_000_000_000, 2_000_000_000))
    assert world.call("run", document, "--results", "results").returncode == 105
    (world.home / "out/model.pt").rename(world.home / "output/model.pt")
    assert world.call("run", document, "--results", "results").returncode == 0
    assert (world.home / "results/jobs/typo/model.pt").read_text() == "model\n"
    assert not (world.home / "results/jobs/typo/later.pt").exists()
    assert world.call("results", "--output", "got").returncode == 0
    assert json.loads(world.call("status", "--json").stdout)["jobs"][0]["results_uploaded"] is True


def test_results_older_than_their_job_are_told(world: World) -> None:
    """What an earlier day has left would be taken for what the job made."""
    for name in ("old.bin", "same.bin"):
        (world.home / name).write_text(name)
        os.utime(world.home / name, (1_700_000_000, 1_700_000_000))
    document = world.document(job("train", "echo new > same.bin", "*.bin"))
    assert world.call("run", document, "--results", "results").returncode == 0
    state = world.jobs()["train"]
    assert (state["results_uploaded"], state["stale_results"]) == (True, ["old.bin"])
    assert "older than the job's first start: old.bin" in world.call("status").stdout
    assert (world.home / "results/jobs/train/old.bin").read_text() == "old.bin"


def test_files_of_runner_itself_are_no_results(world: World) -> None:
    """A live database and its lock would be stored as results, twice a job."""
    folders = ["--state-dir", "own/state", "--log-dir", "own/logs", "--results", "own/results"]
    document = world.document(
        job("a", "echo hi > a.txt", "**"), job("b", "mkdir -p own/state; echo 1", "own/state/**")
    )
    done = world.call("run", document, *folders)
    assert done.returncode == 105, done.stderr
    stored = world.home / "own/results/jobs"
    names = {str(path.relative_to(stored)) for path in stored.rglob("*") if path.is_file()}
    ours = {"manifest.json", "stdout.log", "stderr.log"}
    assert {name for name in names if name.split("/")[1] not in ours} == {"a/a.txt", "a/q.json"}
    told = json.loads((world.home / "own/results/queue-state.json").read_text())["jobs"]
    assert "result_error" not in told[0]
    assert "matched nothing but files of runner itself" in told[1]["result_error"]
