"""Arrays as a user has them: logs, results and state in place, one element at a time, and kills."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from world import World

FAN_OUT = (
    {"job_id": "split", "command": "mkdir -p in out; for i in 0 1 2 3; do echo $i > in/$i; done"},
    {
        "job_id": "x",
        "array": 4,
        "command": 'echo "$JOB_ID $RUNNER_ARRAY_INDEX $JOB_ATTEMPT"; echo err >&2;'
        " [ -e bad ] && [ $RUNNER_ARRAY_INDEX = 2 ] && exit 3; cp in/$RUNNER_ARRAY_INDEX out/",
        "depends_on": ["split"],
        "result_paths": ["out/{array_index}"],
        "retry": {"max_attempts": 2, "backoff": "fixed", "base_delay": "10ms"},
    },
    {"job_id": "y", "array": 4, "command": "cat out/$RUNNER_ARRAY_INDEX", "depends_on": ["x[]"]},
    {"job_id": "merge", "command": "cat out/*", "depends_on": ["x", "y"]},
)


def fan_out(world: World, **queue: Any) -> str:
    jobs = [{"timeout": "1m", **job} for job in FAN_OUT]
    return world.document(*jobs, on_failure="continue", max_parallel_jobs=3, **queue)


def text(path: Path) -> str:
    return path.read_text()


def test_split_map_merge_with_everything_in_its_place(world: World) -> None:
    """Two elements would share logs, results or attempts, or a user not find them."""
    (world.home / "bad").touch()
    document = fan_out(world)
    first = world.call("run", document, "--results", "kept")
    assert first.returncode == 100, first.stderr
    jobs = world.jobs()
    assert [*jobs] == ["split", "x", "y", "merge"]
    array = jobs["x"]["array"]
    assert jobs["x"]["status"] == "failed" and array["counts"] == {"completed": 3, "failed": 1}
    assert (array["failed"], array["retried"]) == ("2", "2")
    assert jobs["x"]["error_message"].startswith("1 of 4 elements failed; x[2]: command execution")
    assert jobs["y"]["array"]["counts"] == {"completed": 3, "skipped": 1}
    assert jobs["merge"]["reason"] == "dependency 'x' failed"
    logs = world.logs / "queues/q"
    assert text(logs / "jobs/x/1-stdout.log") == "x 1 1\n"
    assert text(logs / "jobs/x/2-stdout.log") == "x 2 2\n"
    assert text(logs / "attempts/x/2/1/stdout.log") == "x 2 1\n"
    stored = world.home / "kept/jobs/x"
    assert sorted(path.name for path in stored.iterdir()) == ["0", "1", "2", "3"]
    assert text(stored / "3/3") == "3\n" and not (stored / "2/2").exists()
    assert json.loads(text(stored / "2/manifest.json"))["job_id"] == "x[2]"
    assert (stored / "2/attempts/1/stdout.log").exists()

    shown = world.call("status").stdout
    assert "3 of 4 completed; failed [2]; retried [2]" in shown
    assert "See why:     runner logs x[2]" in shown
    assert world.data("status", "--failed")["jobs"][0]["job_id"] == "x"
    told = world.call("status", "--job", "x").stdout
    assert "elements:         4 (3 completed, 1 failed)\n" in told and "  x[0] started" not in told
    assert world.data("status", "--job", "x[2]")["exit_code"] == 3
    assert world.call("logs", "x[1]").stdout == "x 1 1\n"
    which = world.call("logs", "x")
    assert which.returncode == 2 and "give one of its elements, x[0] to x[3]" in which.stderr
    nobody = world.call("status", "--job", "x[4]")
    assert nobody.returncode == 102 and "did you mean" in nobody.stderr

    (world.home / "bad").unlink()
    assert world.call("retry", "x[1]").returncode == 2, "it has completed"
    assert world.call("retry", "x[2]").returncode == 0
    assert world.call("run", document, "--results", "kept").returncode == 0
    assert text(logs / "jobs/x/2-stdout.log") == "x 2 3\n", "numbers go on"
    assert text(logs / "jobs/x/1-stdout.log") == "x 1 1\n", "the others stay"
    assert text(logs / "jobs/merge-stdout.log") == "0\n1\n2\n3\n"
    fetched = world.call("results", "kept", "--job", "x[3]", "--output", "one")
    assert fetched.returncode == 0
    assert text(world.home / "one/x/3/3") == "3\n" and not (world.home / "one/x/0").exists()
    assert world.call("results", "kept", "--job", "x", "--output", "all").returncode == 0
    assert len([*(world.home / "all/x").glob("*/stdout.log")]) == 4
    assert world.call("logs", "x[2]", "--from", "kept").stdout == "x 2 3\n"


HELD = {
    "job_id": "x",
    "array": 6,
    "array_parallel": 2,
    "timeout": "1m",
    "command": "echo run >> runs.$RUNNER_ARRAY_INDEX;"
    " until [ -e go.$RUNNER_ARRAY_INDEX ]; do sleep 0.02; done",
}


def runs(world: World, index: int) -> int:
    path = world.home / f"runs.{index}"
    return len(path.read_text().splitlines()) if path.exists() else 0


def test_elements_outlive_a_kill_and_run_once(world: World) -> None:
    """A run that is killed would begin the array anew, or run an element beside itself."""
    document = world.document(HELD, max_parallel_jobs=4)
    (world.home / "go.0").touch()
    run = world.start("run", document)
    for index in (0, 1, 2):
        world.until_file(f"runs.{index}")
    world.until(lambda: world.jobs().get("x", {}).get("array", {}).get("running") == "1-2")
    run.kill()
    run.wait()
    assert "adopted by the next start" in world.call("status").stdout
    (world.home / "go.1").touch()
    again = world.start("run", document)
    world.until_file("runs.3")
    told = world.data("status")["jobs"][0]["array"]
    assert told["counts"]["completed"] == 2 and told["running"] == "2-3", "two at once"
    assert world.call("cancel", "x[4]", "x[2]").returncode == 0
    world.until_file("runs.5")
    for index in range(6):
        (world.home / f"go.{index}").touch()
    assert again.wait(20) == 103
    assert [runs(world, index) for index in range(6)] == [1, 1, 1, 1, 0, 1]
    assert world.jobs()["x"]["array"]["counts"] == {"completed": 4, "cancelled": 2}


def test_another_machine_resumes_an_array_from_the_store(world: World, tmp_path: Path) -> None:
    """A replaced machine would run all elements again, or none."""
    document = world.document(HELD, max_parallel_jobs=2)
    for index in (0, 1):
        (world.home / f"go.{index}").touch()
    run = world.start("run", document, "--results", "kept")
    world.until_file("runs.3")
    state = world.home / "kept/queue-state.json"
    world.until((world.home / "kept/queue.json").exists)
    world.until(lambda: state.exists() and '"completed":2' in state.read_text())
    run.kill()
    run.wait()
    world.close()
    for index in range(6):
        (world.home / f"go.{index}").touch()
    other = ("--state-dir", str(tmp_path / "elsewhere"), "--log-dir", str(tmp_path / "other-logs"))
    done = world.call("run", document, "--results", "kept", *other)
    assert done.returncode == 0 and "resumes the run in" in done.stderr
    assert [runs(world, index) for index in range(6)] == [1, 1, 2, 2, 1, 1]
    assert json.loads(state.read_text())["jobs"][0]["array"]["retried"] == "2-3"
