"""Who waits for a queue on EC2: through the boot of its machine, a stop, and a replacement."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from elsewhere import Elsewhere

PATIENCE = 150.0
"""Seconds: three commands begin at once."""

WAITING = {
    "wait": ("wait", "q"),
    "watch": ("status", "q", "--watch"),
    "logs": ("logs", "a", "-f", "--on", "q"),
}


def job(command: str) -> dict[str, Any]:
    return {"job_id": "a", "command": command, "timeout": "5m"}


def report(elsewhere: Elsewhere, **told: Any) -> None:
    """What the machine has stored of its boot."""
    elsewhere.endpoint.client().put_object(
        Bucket=elsewhere.bucket,
        Key="runner/launches/abc123/bootstrap.json",
        Body=json.dumps({"version": 1, **told}).encode(),
    )


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.05)


class Waits:
    """The verbs, each with what it has said so far."""

    def __init__(self, elsewhere: Elsewhere) -> None:
        self._laptop = elsewhere.laptop
        self._started: dict[str, subprocess.Popen[bytes]] = {}
        for name, words in WAITING.items():
            with open(self._path(name), "wb") as file:
                started = self._laptop.start(*words, stdout=file, stderr=file)
            self._started[name] = started

    def _path(self, name: str) -> Path:
        return self._laptop.home / f"said-{name}"

    def said(self, name: str) -> str:
        return self._path(name).read_text()

    def until_all(self, true: Callable[[str], bool]) -> None:
        """Until it is true of what each has said."""
        until(lambda: all(true(self.said(name)) for name in WAITING))

    def codes(self) -> dict[str, int]:
        return {name: each.wait(PATIENCE) for name, each in self._started.items()}


def test_who_waits_waits_through_the_boot(elsewhere: Elsewhere) -> None:
    """Right after a launch they would be sent away, to ask again in a minute."""
    name = elsewhere.launched(agent=False)
    waits = Waits(elsewhere)
    waits.until_all(lambda said: f"{name} is booting: nothing heard of it yet" in said)
    plain = elsewhere.laptop.call("status", "q")
    assert plain.returncode == 106 and f"{name} is booting" in plain.stderr
    report(elsewhere, outcome="booting", instance_id=name, phases=[{"phase": "installed"}])
    waits.until_all(lambda said: f"{name} is booting: installed done" in said)
    elsewhere.run(job("echo the output"))
    assert waits.codes() == {"wait": 0, "watch": 0, "logs": 0}
    assert "the output\n" in waits.said("logs")
    assert "q completed" in waits.said("wait") and "q completed" in waits.said("watch")


def test_a_boot_that_has_failed_ends_all_waiting(elsewhere: Elsewhere) -> None:
    """A machine that is kept for a look would be waited for for hours, and nobody know why."""
    name = elsewhere.launched(agent=False)
    waits = Waits(elsewhere)
    waits.until_all(lambda said: "nothing heard" in said)
    report(elsewhere, outcome="failed", error="no room on the disk", phases=[{"phase": "fetched"}])
    assert waits.codes() == {"wait": 1, "watch": 1, "logs": 1}
    plain = elsewhere.laptop.call("status", "q")
    assert plain.returncode == 1
    why = f"the boot of {name} has failed: no room on the disk (after: fetched)"
    log = f"its log: aws s3 cp s3://{elsewhere.bucket}/runner/launches/abc123/bootstrap.log -"
    for said in (*map(waits.said, WAITING), plain.stderr):
        assert why in said and log in said


def test_a_machine_that_ends_before_its_queue_is_told_with_ec2s_reason(
    elsewhere: Elsewhere,
) -> None:
    """They would wait for a queue that nobody can begin."""
    name = elsewhere.launched(agent=False)
    waits = Waits(elsewhere)
    waits.until_all(lambda said: "nothing heard" in said)
    elsewhere.ec2().terminate_instances(InstanceIds=[name])
    assert waits.codes() == {"wait": 1, "watch": 1, "logs": 1}
    why = f'{name} has ended before it began the queue: EC2 says "Client.UserInitiatedShutdown'
    for verb in WAITING:
        assert why in waits.said(verb)


# A first attempt that waits for its end, and a second that goes on where it was.
TWICE = (
    "trap 'echo bye; exit 0' TERM; echo attempt $JOB_ATTEMPT; "
    "until [ $JOB_ATTEMPT = 2 ] && [ -e GO ]; do sleep 0.1; done; echo done"
)


@pytest.mark.parametrize("replaced", [False, True])
def test_a_log_is_followed_over_a_stop_and_a_replacement(
    elsewhere: Elsewhere, replaced: bool
) -> None:
    """Who follows would take an interruption for the end, and never see how it went on."""
    name = elsewhere.launched()
    go = elsewhere.laptop.home / "go"
    elsewhere.run(job(TWICE.replace("GO", str(go))))
    elsewhere.until_job("a", "running")
    out = elsewhere.laptop.home / "out"
    with open(out, "wb") as file:
        following = elsewhere.laptop.start("logs", "a", "-f", "--on", name, stdout=file)
    until(lambda: "attempt 1\n" in out.read_text())
    agent = elsewhere.ssm.agents.pop(name)
    assert elsewhere.machine.call("stop").returncode == 0
    ec2 = elsewhere.ec2()
    (ec2.terminate_instances if replaced else ec2.stop_instances)(InstanceIds=[name])
    until(lambda: "bye\n" in out.read_text())
    until(lambda: not (elsewhere.machine.run_dir / "runner.sock").exists())
    if replaced:
        name = elsewhere.launched()
    else:
        ec2.start_instances(InstanceIds=[name])
        elsewhere.ssm.agents[name] = agent
    elsewhere.machine.daemon()
    if replaced:
        # Of one that had done all before it was looked at, the store would tell, and not its name.
        until(lambda: f"{name} goes on with the queue" in elsewhere.laptop.stderr)
    go.touch()
    assert following.wait(PATIENCE) == 0
    assert out.read_text().split("\n") == ["attempt 1", "bye", "attempt 2", "done", ""]
    assert (f"{name} goes on with the queue" in elsewhere.laptop.stderr) is replaced


def test_s3_stands_in_for_a_machine_that_answers_junk(elsewhere: Elsewhere) -> None:
    """A broken installation there would hide a state that is stored."""
    name = elsewhere.launched()
    elsewhere.run(job("echo the output"))
    until(lambda: elsewhere.status() == "completed")
    until(lambda: elsewhere.laptop.data("status", name)["source"]["from"] == "ssm")
    key = "queues/q/queue-state.json"
    until(
        lambda: json.loads(elsewhere.endpoint.read(elsewhere.bucket, key))["status"] == "completed"
    )
    junk = elsewhere.bin.parent / "junk"
    junk.mkdir()
    for said in ("", "Segmentation fault", "\\033[31m" + "x" * 5000, '{"ok": true}', "null"):
        (junk / "runner").write_text(f"#!/bin/sh\nprintf '{said}'\n")
        (junk / "runner").chmod(0o755)
        agent = elsewhere.ssm.agents[name]
        env = {**agent.env, "PATH": f"{junk}:/usr/bin:/bin"}
        elsewhere.ssm.agents[name] = replace(agent, env=env)
        shown = elsewhere.laptop.call("status", name)
        assert shown.returncode == 0, shown.stderr
        assert "Status:      completed" in shown.stdout and "from S3" in shown.stdout
        assert all(len(line) < 400 for line in (shown.stdout + shown.stderr).splitlines())
    assert elsewhere.laptop.call("wait", name).returncode == 0
    log = elsewhere.laptop.call("logs", "a", "--on", name)
    assert (log.returncode, log.stdout) == (0, "the output\n")
