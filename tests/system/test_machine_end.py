"""The real daemon on a machine that is to end when its work is done."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from imds import Imds
from s3_endpoint import Endpoint, env_for
from world import World

STOPS = {"RUNNER_ON_COMPLETE": "stop", "RUNNER_ON_COMPLETE_DELAY": "1h"}


def submit(world: World, command: str = "true", name: str = "q") -> None:
    job = {"job_id": "a", "command": command, "timeout": "1m"}
    done = world.call("submit", world.document(job, name=name))
    assert done.returncode == 0, done.stderr


def remembered(world: World) -> dict[str, Any]:
    path = world.state / "machine.json"
    told: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return told


def plan(world: World) -> dict[str, Any] | None:
    return remembered(world).get("plan")


def with_tools(world: World) -> Path:
    """A ``systemctl`` that writes down what it is asked; where to."""
    tools, asked = world.home / "bin", world.home / "asked"
    tools.mkdir()
    (tools / "systemctl").write_text(f'#!/bin/sh\necho "$@" >> {asked}\n')
    (tools / "systemctl").chmod(0o755)
    world.env["PATH"] = f"{tools}:{world.env['PATH']}"
    return asked


def enforce_lifetime(world: World) -> None:
    assert world.call("enforce-lifetime").returncode == 0


def test_it_ends_when_all_is_done_and_not_before(world: World) -> None:
    """A machine would end under its work; or cost money when there is none."""
    asked = with_tools(world)
    world.daemon(env={**STOPS, "RUNNER_ON_COMPLETE_DELAY": "2s"})
    assert plan(world) is None, "it has not done anything yet"
    submit(world, "until [ -e go ]; do sleep 0.02; done; rm go")
    submit(world, name="r")
    world.until(lambda: world.jobs().get("a", {}).get("status") == "running")
    enforce_lifetime(world)
    assert plan(world) is None and not asked.exists()
    (world.state / "queues/q/work/go").touch()
    world.until(lambda: plan(world))
    shown = world.call("status").stdout
    assert "Machine:     stops at " in shown and "(queue r completed); `runner keep`" in shown
    world.until(lambda: enforce_lifetime(world) or asked.exists())
    assert asked.read_text().startswith("poweroff")
    refused = world.call("submit", world.document(_job(), name="late"))
    assert refused.returncode == 2 and "this machine ends" in refused.stderr
    assert "is being ended" in world.call("status").stdout


def _job() -> dict[str, Any]:
    return {"job_id": "a", "command": "true", "timeout": "1m"}


def test_new_work_calls_it_off(world: World) -> None:
    """The machine would end under a queue that was accepted."""
    world.daemon(env=STOPS)
    submit(world)
    first = world.until(lambda: plan(world))
    submit(world, "until [ -e go ]; do sleep 0.02; done", name="r")
    world.until(lambda: world.jobs("r").get("a", {}).get("status") == "running")
    assert plan(world) is None
    (world.state / "queues/r/work/go").touch()
    second = world.until(lambda: plan(world))
    assert second["due"] > first["due"] and second["why"] == "queue r completed"
    assert world.call("retry", "--queue", "q").returncode == 2, "nothing to retry"
    assert plan(world) == second


def test_a_failure_keeps_it_longer_and_a_retry_calls_it_off(world: World) -> None:
    """Nobody could look at what went wrong."""
    world.daemon(env={**STOPS, "RUNNER_KEEP_ON_FAILURE": "9h"})
    submit(world, "[ -e go ] || exit 3; until [ -e done ]; do sleep 0.02; done")
    made = world.until(lambda: plan(world))
    assert (made["after"], made["why"]) == (9 * 3600, "queue q failed")
    (world.state / "queues/q/work/go").touch()
    assert world.call("retry").returncode == 0
    world.until(lambda: world.jobs()["a"]["status"] == "running")
    assert plan(world) is None
    (world.state / "queues/q/work/done").touch()
    world.until(lambda: (plan(world) or {}).get("after") == 3600)


def test_the_only_copy_of_results_keeps_it_as_a_failure_does(world: World) -> None:
    """The machine would go, with the model, because S3 was away when the queue ended."""
    env = {**STOPS, "RUNNER_KEEP_ON_FAILURE": "9h", "RUNNER_UPLOAD_TIMEOUT": "200ms"}
    world.env.update(env_for("http://127.0.0.1:1"))  # nobody listens there
    world.daemon(env=env)
    job = {**_job(), "command": "echo 1 > r", "result_paths": ["r"]}
    world.call("submit", world.document(job, result_s3_bucket="away"))
    made = world.until(lambda: plan(world))
    told = "queue q completed, results are only on this machine"
    assert (made["after"], made["why"]) == (9 * 3600, told)
    assert told in world.call("status").stdout
    assert "machine_end_planned" in world.stderr


def test_a_missing_result_keeps_it_until_it_is_in_its_place(
    world: World, endpoint: Endpoint
) -> None:
    """A mistyped glob would cost the model: the machine would go as if all was stored."""
    world.env.update(endpoint.env)
    world.daemon(env={**STOPS, "RUNNER_KEEP_ON_FAILURE": "9h"})
    job = {**_job(), "command": "echo 1 > model.pt", "result_paths": ["out/*.pt"]}
    world.call("submit", world.document(job, result_s3_bucket=endpoint.bucket()))
    world.until(lambda: (plan(world) or {}).get("after") == 9 * 3600)
    work = world.state / "queues/q/work"
    (work / "out").mkdir()
    (work / "model.pt").rename(work / "out/model.pt")
    assert world.call("upload").returncode == 0
    world.until(lambda: (plan(world) or {}).get("after") == 3600)


def test_a_killed_daemon_keeps_the_moment(world: World) -> None:
    """A daemon that crashes again and again would put it off for ever; or forget it."""
    daemon = world.daemon(env=STOPS)
    submit(world)
    made = world.until(lambda: plan(world))
    for _ in range(2):
        daemon.kill()
        daemon.wait()
        assert "Machine:     stops at " in world.call("status").stdout
        daemon = world.daemon(env=STOPS)
        world.until(lambda: world.ask("status", queue="q")["queue"].get("machine"))
        assert plan(world) == made


def test_a_run_in_the_foreground_holds_it(world: World) -> None:
    """The machine would end under somebody's eyes."""
    run = world.start(
        "run", world.document({**_job(), "command": "touch began; sleep 60"}, name="fore")
    )
    world.until_file("began")
    world.daemon(env=STOPS)
    submit(world)
    world.until(lambda: world.jobs().get("a", {}).get("status") == "completed")
    world.until(lambda: "queue_left" in world.stderr)
    assert plan(world) is None
    run.terminate()
    run.wait(20)
    submit(world, name="r")
    world.until(lambda: plan(world))


def test_nothing_starts_once_the_lifetime_is_over(world: World) -> None:
    """A boot after it would begin work that is ended a moment later."""
    asked = with_tools(world)
    env = {"RUNNER_MAX_LIFETIME": "1s"}
    world.daemon(env=env)
    submit(world)
    held = world.until(lambda: world.ask("status", queue="q")["queue"].get("blocked"))
    assert held == "the machine's lifetime of 1s is over"
    assert world.jobs().get("a", {}).get("status", "pending") == "pending"
    assert world.call("enforce-lifetime", env=env).returncode == 0
    assert asked.read_text() == "poweroff\n"


def test_without_the_setting_nothing_is_planned(world: World) -> None:
    """A machine that nobody wants to end would."""
    asked = with_tools(world)
    world.daemon()
    submit(world)
    world.until(lambda: world.call("wait").returncode == 0)
    enforce_lifetime(world)
    assert plan(world) is None and not asked.exists()
    assert "Machine:" not in world.call("status").stdout


def test_a_copy_of_the_disk_begins_a_life_of_its_own(world: World, imds: Imds) -> None:
    """A machine that is made from an image would end with its first boot."""
    imds.data["instance-id"] = "i-first"
    env = {**STOPS, **imds.env}
    daemon = world.daemon(env=env)
    submit(world)
    world.until(lambda: plan(world))
    world.until(lambda: lives_as(world) == "i-first")
    stop(daemon)
    imds.data["instance-id"] = "i-copy"
    world.daemon(env={**env, "RUNNER_ON_COMPLETE": "none"})
    world.until(lambda: lives_as(world) == "i-copy")
    assert plan(world) is None


def test_who_it_is_is_asked_until_it_is_told(world: World, imds: Imds) -> None:
    """After one lost answer a copy would live on with the end of the machine it was copied from."""
    imds.mood = "500"
    daemon = world.daemon(env={**STOPS, **imds.env})
    world.until(lambda: imds.times("/latest/api/token", "PUT") > 1)
    assert lives_as(world) is None
    imds.data["instance-id"], imds.mood = "i-told", "well"
    world.until(lambda: lives_as(world) == "i-told")
    imds.mood = "500"
    stop(daemon)


def lives_as(world: World) -> str | None:
    """The instance that the machine takes itself for."""
    told: str | None = remembered(world).get("life", {}).get("instance")
    return told


def stop(daemon: subprocess.Popen[bytes]) -> None:
    daemon.terminate()
    assert daemon.wait(20) == 0
