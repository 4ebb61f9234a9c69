"""Jobs that would do what they have done: left out by the real command, and by no mistake."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from world import World


def chain(world: World, **queue: Any) -> str:
    """Three jobs, each of which notes that it ran."""
    jobs: list[dict[str, Any]] = [
        {
            "job_id": "prepare",
            "command": "echo prepare >> ran; mkdir -p data; tr a-z A-Z < raw > data/rows",
            "inputs": ["raw"],
            "result_paths": ["data/rows"],
        },
        {
            "job_id": "train",
            "command": "echo train >> ran; cat data/rows model.conf > model",
            "depends_on": ["prepare"],
            "inputs": ["model.conf"],
            "result_paths": ["model"],
        },
        {
            "job_id": "check",
            "command": "echo check >> ran; test -s model",
            "depends_on": ["train"],
            "inputs": ["model.conf"],
        },
    ]
    return world.document(*({"timeout": "1m", **job} for job in jobs), **queue)


def begin(world: World) -> str:
    (world.home / "raw").write_text("rows\n")
    (world.home / "model.conf").write_text("deep\n")
    return chain(world)


def ran(world: World, document: str, *flags: str) -> list[str]:
    """Which jobs a run has started."""
    (world.home / "ran").unlink(missing_ok=True)
    done = world.call("run", document, *flags)
    assert done.returncode == 0, done.stderr
    path = world.home / "ran"
    return path.read_text().split() if path.exists() else []


AGAIN = ("--fresh", "--reuse")


def test_only_what_has_changed_runs_again(world: World) -> None:
    """A day of computing would be done again for a change in its last step; or not be done."""
    document = begin(world)
    assert ran(world, document) == ["prepare", "train", "check"]
    assert ran(world, document, *AGAIN) == []
    assert {state["reason"] for state in world.jobs().values()} == {"unchanged"}
    (world.home / "model.conf").write_text("wide\n")
    assert ran(world, document, *AGAIN) == ["train", "check"]
    (world.home / "raw").write_text("ROWS\n")
    assert ran(world, document, *AGAIN) == ["prepare"], "it makes the same rows"
    assert ran(world, document, "--fresh") == ["prepare", "train", "check"]


@pytest.mark.long
def test_results_come_from_the_store_and_are_this_runs(world: World) -> None:
    """After a clean-up, or on another machine, all would run again; or results be in no run."""
    document = begin(world)
    store = ("--results", "kept")
    assert len(ran(world, document, *store)) == 3
    shutil.rmtree(world.home / "data")
    (world.home / "model").unlink()
    assert ran(world, document, *AGAIN, *store) == []
    assert (world.home / "model").read_text() == "ROWS\ndeep\n"
    assert world.call("results", "--output", "got").returncode == 0
    assert (world.home / "got/train/model").read_text() == "ROWS\ndeep\n"
    manifest = json.loads((world.home / "kept/jobs/train/manifest.json").read_text())
    state = json.loads((world.home / "kept/queue-state.json").read_text())
    assert (manifest["run_id"], manifest["attempt"]) == (state["run_id"], 0)
    # Another machine has the folder, and nothing else.
    for folder in (world.state, world.logs):
        shutil.rmtree(folder)
    shutil.rmtree(world.home / "data")
    assert ran(world, document, *AGAIN, *store) == []
    assert (world.home / "data/rows").read_text() == "ROWS\n"
    (world.home / "model").write_text("by hand")
    assert ran(world, document, *AGAIN, *store) == ["train"], "it makes the same model"


@pytest.mark.long
def test_an_input_that_changes_while_the_job_runs(world: World) -> None:
    """Nobody knows which of the two the job has read."""
    (world.home / "in").write_text("1")
    job = {"job_id": "a", "timeout": "1m", "inputs": ["in"], "result_paths": ["out"]}
    command = "echo a >> ran; cp in out; if [ ! -e once ]; then touch once; echo 2 > in; fi"
    document = world.document({**job, "command": command})
    done = world.call("run", document)
    assert 'inputs changed why="in" changed' in done.stdout
    assert ran(world, document, *AGAIN) == ["a"]
    assert ran(world, document, *AGAIN) == []


@pytest.mark.long
def test_a_person_can_have_a_job_run_all_the_same(world: World) -> None:
    """What `retry --completed` asks for would be answered and not be done."""
    document = begin(world)
    assert len(ran(world, document)) == 3
    assert world.call("retry", "--completed", "prepare", "--with-dependants").returncode == 0
    assert ran(world, document) == ["prepare"], "and what depends on it has the same rows"


@pytest.mark.long
def test_flags_that_say_nothing_are_refused(world: World) -> None:
    """Somebody would think that a run took what there is."""
    document = begin(world)
    done = world.call("run", document, "--reuse")
    assert done.returncode == 2 and "--reuse: is for --fresh" in done.stderr
    done = world.call(
        "run", document, "--fresh", "--reuse", "--target", "batch", "--job-queue", "q"
    )
    assert done.returncode == 2 and "--reuse" in done.stderr


@pytest.mark.long
def test_an_array_and_what_waits_for_it(world: World) -> None:
    """One sample of a hundred that has changed would run all of them, or none."""
    for number in range(4):
        (world.home / f"{number}.csv").write_text(f"{number}\n")
    each = {
        "job_id": "each",
        "array": 4,
        "command": "echo each$RUNNER_ARRAY_INDEX >> ran;"
        " cp $RUNNER_ARRAY_INDEX.csv $RUNNER_ARRAY_INDEX.out",
        "inputs": ["{array_index}.csv"],
        "result_paths": ["{array_index}.out"],
    }
    merge = {
        "job_id": "merge",
        "command": "echo merge >> ran; cat *.out > all",
        "depends_on": ["each"],
        "inputs": [],
        "result_paths": ["all"],
    }
    merge["inputs"] = ["none/*"]
    document = world.document(*({"timeout": "1m", **job} for job in (each, merge)))
    assert len(ran(world, document)) == 5
    assert ran(world, document, *AGAIN) == []
    (world.home / "2.csv").write_text("new\n")
    assert ran(world, document, *AGAIN) == ["each2", "merge"]
    assert Path(world.home / "all").read_text() == "0\n1\nnew\n3\n"


@pytest.mark.long
def test_the_service_leaves_out_what_has_not_changed(world: World) -> None:
    """What `run` does a submitted queue would not: all of it again each night."""
    begin(world)
    document = chain(world, working_directory=str(world.home))
    world.daemon()
    for flags, jobs in (((), ["prepare", "train", "check"]), (AGAIN, []), (("--fresh",), None)):
        (world.home / "ran").unlink(missing_ok=True)
        assert world.call("submit", document, *flags).returncode == 0
        assert world.call("wait").returncode == 0
        path = world.home / "ran"
        found = path.read_text().split() if path.exists() else []
        assert found == (["prepare", "train", "check"] if jobs is None else jobs)
    told = world.call("explain", "train").stdout
    assert "nothing that it depends on" not in told


@pytest.mark.long
def test_a_killed_run_goes_on_and_is_known_afterwards(world: World) -> None:
    """The run that was adopted would be forgotten, and done again each time."""
    (world.home / "in").write_text("1")
    command = "echo a >> ran; while [ ! -e go ]; do sleep 0.05; done; cp in out"
    job = {"job_id": "a", "timeout": "1m", "inputs": ["in"], "result_paths": ["out"]}
    document = world.document({**job, "command": command})
    running = world.start("run", document)
    world.until_file("ran")
    running.kill()
    running.wait()
    (world.home / "go").touch()
    assert world.call("run", document).returncode == 0
    assert ran(world, document, *AGAIN) == []
    assert "nothing that it depends on has changed" in world.call("explain", "a").stdout
