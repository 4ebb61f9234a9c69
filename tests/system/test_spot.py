"""The real daemon on a machine that is taken away: jobs are told, work ends, and goes on later."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from imds import Imds
from world import World

from runner.host.spot import POLL_EVERY
from runner.service.spot_watch import FIRST_LOOK

QUICK = (
    "import runner.host.spot as spot; spot.POLL_EVERY = 0.2;"
    "from runner.cli.main import main; raise SystemExit(main())"
)

# Builtins only in the trap: a child that it forks may still get the tree's SIGTERM.
SAVES = """
trap 'read -r line < $RUNNER_SPOT_NOTICE; echo "$line" > told.term; exit 0' TERM
echo $JOB_ATTEMPT >> attempts
[ -e {go} ] && exit 0
touch began
until [ -e $RUNNER_SPOT_NOTICE ]; do sleep 0.02; done
cat $RUNNER_SPOT_NOTICE > told.file
while :; do sleep 0.02; done
"""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five seconds between polls are right on EC2 only."""
    assert POLL_EVERY == 5
    monkeypatch.setattr("world.RUNNER", [sys.executable, "-c", QUICK])


def on_ec2(world: World, imds: Imds, **settings: str) -> subprocess.Popen[bytes]:
    """A daemon on a machine with this metadata service."""
    return world.daemon(env={**imds.env, **settings})


def submit(world: World, *jobs: dict[str, Any], name: str = "q", **queue: Any) -> None:
    done = world.call("submit", world.document(*jobs, name=name, **queue))
    assert done.returncode == 0, done.stderr


def saves(world: World, name: str = "a", **more: Any) -> dict[str, Any]:
    """A job that writes what it sees of its end; it completes at once when there is ``go``."""
    command = SAVES.replace("{go}", str(world.home / "go"))
    return {"job_id": name, "command": command, "timeout": "10m", **more}


def status(world: World, queue: str = "q") -> dict[str, Any]:
    answer: dict[str, Any] = world.ask("status", queue=queue, limit=0)["queue"]
    return answer


def left(world: World) -> bool:
    """Whether the queue was interrupted, and all of its last words are written."""
    now = status(world)
    return now["status"] == "interrupted" and "worker" not in now


def notice_of(world: World, queue: str = "q") -> Path:
    return world.state / "queues" / queue / "spot-notice"


def test_a_spot_notice_from_the_first_job_to_the_next_machine(world: World, imds: Imds) -> None:
    """The two minutes would pass unused, or the work not go on afterwards."""
    daemon = on_ec2(world, imds)
    work = world.state / "queues/q/work"
    submit(world, saves(world, retry={"max_attempts": 1}), {**saves(world, "b"), "timeout": "1m"})
    submit(world, saves(world, "other"), name="next")
    world.until((work / "began").exists)
    moment = imds.announce_spot(120)
    world.until(lambda: left(world))
    told = {"action": "stop", "time": moment}
    assert json.loads((work / "told.term").read_text()) == told, "the file, and then the signal"
    assert notice_of(world).stat().st_mode & 0o777 == 0o644
    why = f"spot interruption at {moment}"
    shown = status(world)
    assert shown["reason"] == why
    assert shown["blocked"] == why
    assert status(world, "next")["blocked"] == why
    assert world.call("wait").returncode == 104, "nobody goes on with it for now"
    job = world.jobs()["a"]
    assert (job["status"], job["exit_code"], job["interruptions"]) == ("interrupted", 0, 1)
    submit(world, saves(world, "late"), name="late")
    assert status(world, "late")["blocked"] == why, "accepted, and kept for later"
    assert world.jobs()["b"]["status"] == "pending"
    assert daemon.poll() is None

    daemon.kill()
    daemon.wait()
    imds.data.clear()
    (world.home / "go").touch()
    on_ec2(world, imds)
    for name in ("q", "next", "late"):
        world.until(lambda name=name: status(world, name)["status"] == "completed")  # type: ignore[misc]
    assert not notice_of(world).exists(), "a file of the last machine would end the job again"
    job = world.jobs()["a"]
    assert (job["attempt"], job["interruptions"], job["status"]) == (2, 1, "completed")
    assert (work / "attempts").read_text().split() == ["1", "2", "1"]


def test_with_a_lead_the_file_is_there_before_the_signal(world: World, imds: Imds) -> None:
    """A job that saves when it sees the file would have no time for it; SIGKILL comes in time."""
    stubborn = saves(world)
    stubborn["command"] = stubborn["command"].replace("exit 0' TERM", "' TERM")
    on_ec2(world, imds, RUNNER_SPOT_LEAD="3s")
    submit(world, {**stubborn, "term_grace": "9m"})
    work = world.state / "queues/q/work"
    world.until((work / "began").exists)
    imds.announce_spot(6)
    ends = time.time() + 7
    world.until((work / "told.file").exists)
    assert not (work / "told.term").exists()
    assert status(world)["status"] == "running" and "spot" in status(world)["blocked"]
    world.until(lambda: status(world)["status"] == "interrupted")
    assert time.time() < ends, "the machine would have been gone"
    world.until(lambda: left(world))
    assert (work / "told.term").exists() and world.jobs()["a"]["signal"] == "SIGKILL"


@pytest.mark.parametrize("rebalance", ["note", "drain"])
def test_a_recommendation_ends_no_job(world: World, imds: Imds, rebalance: str) -> None:
    """A machine that may live for days would throw its work away; or not drain when it should."""
    on_ec2(world, imds, RUNNER_REBALANCE=rebalance)
    go = world.home / "go"
    first = f"until [ -e $RUNNER_SPOT_NOTICE ]; do sleep 0.02; done; until [ -e {go} ]; do sleep 0.02; done"  # noqa: E501
    second = "cat $RUNNER_SPOT_NOTICE"
    submit(
        world,
        {"job_id": "a", "command": first, "timeout": "1m"},
        {"job_id": "b", "command": second, "timeout": "1m"},
    )
    world.until(lambda: world.jobs().get("a", {}).get("status") == "running")
    imds.announce_rebalance()
    world.until(notice_of(world).exists)
    assert json.loads(notice_of(world).read_text())["action"] == "rebalance-recommendation"
    go.touch()
    if rebalance == "note":
        world.until(lambda: status(world)["status"] == "completed")
    else:
        world.until(lambda: left(world))
        jobs = world.jobs()
        assert (jobs["a"]["status"], jobs["b"]["status"]) == ("completed", "pending")
        assert "rebalance" in status(world)["blocked"]


def test_a_service_that_is_out_of_order_is_no_jobs_business(world: World, imds: Imds) -> None:
    """A metadata service that hangs would hold up the daemon, or hide the notice for ever."""
    imds.mood = "hang"
    imds.announce_spot(120)
    on_ec2(world, imds)
    submit(world, saves(world))
    world.until((world.state / "queues/q/work/began").exists)
    world.until(lambda: imds.ttls)
    imds.mood = "500"
    world.until(lambda: len(imds.ttls) > 1)
    assert status(world)["status"] == "running"
    imds.mood = "well"
    world.until(lambda: left(world))


def begun_before(world: World, imds: Imds) -> None:
    """A queue with a living job, one that just ended, and one whose turn it is; no daemon."""
    daemon = on_ec2(world, imds)
    go = world.home / "ends"
    ends = f"touch begun; until [ -e {go} ]; do sleep 0.02; done; echo done > done"
    submit(
        world,
        saves(world, "lives"),
        {"job_id": "ends", "command": ends, "timeout": "1m"},
        {"job_id": "next", "command": "true", "timeout": "1m", "depends_on": ["ends"]},
        max_parallel_jobs=2,
    )
    work = world.state / "queues/q/work"
    world.until(lambda: (work / "began").exists() and (work / "begun").exists())
    daemon.kill()
    daemon.wait()
    go.touch()
    world.until((work / "done").exists)


def look_first(monkeypatch: pytest.MonkeyPatch, seconds: int) -> None:
    """On a busy machine a daemon may take longer to start than it would wait."""
    assert FIRST_LOOK <= 2
    slow = f"import runner.service.spot_watch as watch; watch.FIRST_LOOK = {seconds};"
    slow += "import runner.host.metadata as metadata; metadata.READ_TIMEOUT = 20.0;"
    monkeypatch.setattr("world.RUNNER", [sys.executable, "-c", slow + QUICK])


def test_a_daemon_started_within_the_two_minutes_starts_no_job(
    world: World, imds: Imds, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job would begin on a machine that is told to be gone, and lose what it did."""
    begun_before(world, imds)
    imds.announce_spot(120)
    imds.mood = "held"
    look_first(monkeypatch, 20)
    on_ec2(world, imds)
    world.until(lambda: "attempt_adopted" in world.stderr)
    world.until(lambda: "looks first" in status(world).get("blocked", ""))
    imds.go_on.set()
    world.until(lambda: left(world))
    jobs = world.jobs()
    statuses = {name: job["status"] for name, job in jobs.items()}
    assert statuses == {"lives": "interrupted", "ends": "completed", "next": "pending"}
    assert jobs["next"]["attempt"] == 0


@pytest.mark.long
def test_a_first_look_that_hangs_holds_up_new_starts_only_and_not_for_long(
    world: World, imds: Imds, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Living jobs would be left alone, or the queue stand still, for a service out of order."""
    begun_before(world, imds)
    imds.mood = "hang"
    look_first(monkeypatch, 4)
    on_ec2(world, imds)
    world.until(lambda: "attempt_adopted" in world.stderr)
    world.until(lambda: world.jobs().get("next", {}).get("status") == "completed")
    assert "metadata_unreachable" not in world.stderr, "it still hangs"
    assert "blocked" not in status(world)
    order = ("starts_blocked", "attempt_adopted", "starts_unblocked", "job=next")
    assert sorted(order, key=world.stderr.index) == list(order)
