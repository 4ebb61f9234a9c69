"""Results that were there before their job: kept and told, missing, or out of its way."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from world import World

OLD = (1_700_000_000, 1_700_000_000)


def job(name: str, command: str, *results: str | dict[str, Any], **more: Any) -> dict[str, Any]:
    given = {"job_id": name, "command": command, "timeout": "1m", "result_paths": list(results)}
    return {**given, **more}


def leave(world: World, *names: str) -> None:
    """What an earlier day has left."""
    for name in names:
        (world.home / name).write_text("old")
        os.utime(world.home / name, OLD)


def aside(world: World, job_id: str) -> set[str]:
    top = world.home / ".runner-aside" / job_id
    return {str(path.relative_to(top)) for path in top.rglob("*") if path.is_file()}


def test_what_is_checked_counts_as_missing_and_what_is_cleared_is_gone(world: World) -> None:
    """A job that fails to write its model would pass yesterday's for today's."""
    leave(world, "check.bin", "same.bin", "clear.bin", "may.bin")
    document = world.document(
        job("checks", "echo new > same.bin", {"path": "[cs]*.bin", "fresh": "check"}),
        job("may", "true", {"path": "may.bin", "optional": True, "fresh": "check"}),
        job("clears", "test ! -e clear.bin", {"path": "clear.bin", "fresh": "clear"}),
    )
    done = world.call("run", document, "--results", "results")
    assert done.returncode == 105 and "clears results set aside files=1" in done.stdout
    told = {name: state.get("result_error", "") for name, state in world.jobs().items()}
    assert told["checks"] == (
        f"'{world.home}/check.bin' is older than the job's first start: left out; "
        f"'{world.home}/clear.bin' is older than the job's first start: left out"
    )
    assert world.jobs()["may"]["results_uploaded"] is True
    assert "may.bin' is older than" in told["may"]
    assert "pattern 'clear.bin' matched nothing" in told["clears"]
    stored = world.home / "results/jobs"
    assert sorted(path.name for path in stored.rglob("*.bin")) == ["same.bin"]
    assert aside(world, "clears") == {"before/clear.bin"}


RETRIED = """
    ls *.out *.ckpt 2>/dev/null | tr '\\n' ' ' >> seen; echo >> seen
    echo $JOB_ATTEMPT > $JOB_ATTEMPT.out; echo $JOB_ATTEMPT > a.ckpt
    test $JOB_ATTEMPT = 3
"""


def test_a_retry_finds_its_checkpoint_and_no_result_of_the_attempt_before(world: World) -> None:
    """Half a result of a failed attempt would be stored beside the whole one of the next."""
    leave(world, "yesterday.out", "b.ckpt")
    clear = [{"path": pattern, "fresh": "clear"} for pattern in ("*.out", "*.ckpt")]
    retry = {"max_attempts": 3, "backoff": "fixed", "base_delay": "10ms"}
    document = world.document(job("a", RETRIED, *clear, retry=retry, checkpoint_paths=["*.ckpt"]))
    done = world.call("run", document, "--results", "results")
    assert done.returncode == 0, done.stderr
    assert (world.home / "seen").read_text() == "\na.ckpt \na.ckpt \n"
    before, failed = {"before/yesterday.out", "before/b.ckpt"}, {"failed/1.out", "failed/2.out"}
    assert aside(world, "a") == before | failed
    assert done.stdout.count("a results set aside files=") == 3, done.stdout


@pytest.mark.long
def test_an_adopted_attempt_keeps_what_it_has_made(world: World) -> None:
    """A restarted daemon would move the results of a job from under it, while it runs."""
    command = "echo made > r.out; touch begun; while ! test -e go; do sleep 0.05; done; cat r.out"
    document = world.document(
        job("a", command, {"path": str(world.home / "r.out"), "fresh": "clear"}),
        working_directory=str(world.home),
    )
    daemon = world.daemon()
    assert world.call("submit", document).returncode == 0
    world.until_file("begun")
    daemon.send_signal(signal.SIGKILL)
    daemon.wait()
    world.daemon()
    (world.home / "go").touch()
    assert world.call("wait").returncode == 0
    assert (world.home / "r.out").read_text() == "made\n"
    assert aside(world, "a") == set()


@pytest.mark.long
def test_an_interrupted_job_begins_without_its_half_results(world: World) -> None:
    """After Ctrl-C the same command would store what the interrupted attempt had half written."""
    command = "ls *.out; echo $JOB_ATTEMPT > $JOB_ATTEMPT.out; test $JOB_ATTEMPT != 1 || sleep 60"
    document = world.document(job("a", command, {"path": "*.out", "fresh": "clear"}))
    running = world.start("run", document, "--results", "results")
    world.until_file("1.out")
    running.send_signal(signal.SIGINT)
    assert running.wait() == 130
    assert world.call("run", document, "--results", "results").returncode == 0
    manifest = json.loads((world.home / "results/jobs/a/manifest.json").read_text())
    names = {file["name"] for file in manifest["files"]}
    assert "2.out" in names and "1.out" not in names
    assert aside(world, "a") == {"failed/1.out"}


@pytest.mark.long
def test_a_daemon_that_dies_while_it_moves_begins_again(world: World, tmp_path: Path) -> None:
    """Half of the old results would be left, and be taken for the new ones."""
    (world.home / "many").mkdir()
    for number in range(3000):
        (world.home / f"many/{number}").write_text("old")
    command = f'test -z "$(ls {world.home}/many)" && echo new > {world.home}/many/new'
    document = world.document(
        job("a", command, {"path": f"{world.home}/many/*", "fresh": "clear"}),
        working_directory=str(world.home),
    )
    daemon = world.daemon()
    assert world.call("submit", document).returncode == 0
    world.until(lambda: len(os.listdir(world.home / "many")) < 2900)
    daemon.send_signal(signal.SIGKILL)
    daemon.wait()
    world.daemon()
    assert world.call("wait").returncode == 0
    assert os.listdir(world.home / "many") == ["new"]
    assert len(aside(world, "a")) == 3000
    assert world.jobs()["a"]["attempt"] == 1
