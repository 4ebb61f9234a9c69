"""A queue that was put onto the machine of another: seen by every verb that launches or ends."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from account import Account, Laptop
from elsewhere import Elsewhere

LONG = {"job_id": "long", "command": "sleep 300", "timeout": "10m"}
SHORT = {"job_id": "a", "command": "true", "timeout": "1m"}


class Two:
    """``machine``: launched for 'q', which is complete there; 'q2' was put onto it and runs."""

    def __init__(self, aws: Account, folder: Path) -> None:
        self.aws = aws
        (folder / "bundle").mkdir()
        self.bundle = Laptop(aws, folder / "bundle").bundle
        self.there = Elsewhere(folder, aws.endpoint)
        self.machine = self.there.launched()
        self.document("q2", LONG)

    def document(self, name: str, job: dict[str, Any]) -> str:
        return self.there.laptop.document(job, name=name, result_s3_bucket=self.there.bucket)

    def begin(self) -> None:
        self.there.run(SHORT)
        self.there.machine.until(lambda: self.there.status() == "completed")
        assert self.call("launch", "--batch-queue", "q2.json", "--instance-id").returncode == 0
        self.there.until_job("long", "running", "q2")

    def call(self, *words: str) -> subprocess.CompletedProcess[str]:
        """With the machine's id after a flag that wants it."""
        own = [self.machine] if words[-1] in ("--instance-id", "--on", "terminate") else []
        done = self.there.laptop.call(*words, *own)
        print(words, done)
        return done

    def launch(self, verb: str, *words: str) -> subprocess.CompletedProcess[str]:
        return self.call(
            verb, *words, "--instance-type", "t3.medium", "--bundle", str(self.bundle), "--yes"
        )

    def alive(self) -> list[str]:
        states = [{"Name": "instance-state-name", "Values": ["pending", "running"]}]
        where = {"Name": "tag:runner:store", "Values": [f"s3://{self.there.bucket}/*"]}
        found = self.there.ec2().describe_instances(Filters=[*states, where])["Reservations"]
        return [one["InstanceId"] for each in found for one in each["Instances"]]


@pytest.fixture
def two(aws: Account, tmp_path: Path) -> Iterator[Two]:
    made = Two(aws, tmp_path)
    yield made
    made.there.close()


def test_the_second_queue_has_the_machine_too(two: Two) -> None:
    """A second machine would work on it beside the first, or the first be ended under it."""
    two.begin()
    launched = two.launch("launch", "--batch-queue", "q2.json")
    assert launched.returncode == 2
    assert f"queue 'q2' has a machine: {two.machine}" in launched.stderr
    assert "the bucket's index says so" in launched.stderr
    shown = two.call("ls", "--region", "us-east-1")
    assert "q, q2" in shown.stdout
    by_queue = two.call("terminate", "q", "--yes")
    assert by_queue.returncode == 2
    assert f"{two.machine} has queue 'q2' too, which is not finished (running)" in by_queue.stderr
    assert two.alive() == [two.machine]
    resumed = two.launch("resume", "q2", "--dry-run")
    assert resumed.returncode == 0, "what else is on it has ended"
    assert "queue q: completed" in resumed.stderr and "is ended first" in resumed.stderr
    named = two.call("terminate", two.machine, "--yes")
    assert named.returncode == 0 and two.alive() == []
    assert "queue q: completed" in named.stderr and "queue q2: running" in named.stderr


def test_a_resume_does_not_end_the_machine_of_another_queue(two: Two) -> None:
    """The queue that was put behind it would be lost with the machine, and nobody be told."""
    given = ("--dry-run", "--update", "--batch-queue", two.document("q", LONG))
    two.there.run(LONG)
    two.there.until_job("long", "running")
    stored = lambda: "queues/q/queue.json" in two.aws.endpoint.keys(two.there.bucket)  # noqa: E731
    two.there.machine.until(stored)
    assert two.call("submit", "q2.json", "--on").returncode == 0
    refused = two.launch("resume", "q", *given)
    assert refused.returncode == 2
    assert f"{two.machine} has queue 'q2' too, which is not finished (pending)" in refused.stderr
    allowed = two.launch("resume", "q", *given, "--end-others")
    assert allowed.returncode == 0 and "queue q2: pending" in allowed.stderr
    # Without the machine's answer what was put onto it is known by its bucket.
    two.there.ssm.agents.clear()
    mute = two.launch("resume", "q", *given)
    assert mute.returncode == 2 and "has queue 'q2' too" in mute.stderr
    assert two.alive() == [two.machine]


def test_a_queue_with_a_machine_goes_onto_no_other(two: Two) -> None:
    """Two machines would work on one queue."""
    two.there.run(SHORT)
    own = two.there.launched("q2", launch="its-own")
    for words in (
        ("launch", "--batch-queue", "q2.json", "--instance-id"),
        ("submit", "q2.json", "--on"),
    ):
        refused = two.call(*words)
        assert refused.returncode == 2
        assert f"queue 'q2' has a machine: {own}" in refused.stderr
        assert f"nothing was submitted to {two.machine}" in refused.stderr
    assert not any("q2" in key for key in two.there.endpoint.keys(two.there.bucket))


def test_a_refusal_leaves_no_claim_and_a_silence_does(two: Two) -> None:
    """A queue would have a machine that refused it; or be launched beside one that took it."""
    bucket = two.there.bucket

    def known() -> list[str]:
        keys = two.there.endpoint.keys(bucket)
        return [key for key in keys if key.startswith(("runner/index/", "runner/machines/"))]

    two.there.run(SHORT)
    two.there.run(SHORT, name="q2")
    two.there.machine.until(lambda: two.there.status("q2") == "completed")
    refused = two.call("submit", "q2.json", "--on")
    assert refused.returncode == 2, "another document"
    assert known() == []
    two.document("q3", LONG)
    agent = two.there.ssm.agents.pop(two.machine)
    assert two.call("submit", "q3.json", "--on").returncode == 106
    two.there.ssm.agents[two.machine] = agent
    two.there.ssm.garbled = True
    unclear = two.call("submit", "q3.json", "--on")
    assert unclear.returncode == 106
    assert [key.split("/")[-1] for key in known()][:1] == ["q3.json"]
    assert two.launch("launch", "--batch-queue", "q3.json").returncode == 2
    two.there.ssm.garbled = False
    again = two.call("submit", "q3.json", "--on")
    assert again.returncode == 0, again.stderr


def test_a_submit_that_is_cut_leaves_the_queue_visible(two: Two) -> None:
    """The machine may have taken it: nobody would see that, and launch another for it."""
    two.there.run(SHORT)
    agent = two.there.ssm.agents[two.machine]
    agent.deaf = True
    process = two.there.laptop.start("submit", "q2.json", "--on", two.machine)
    two.there.laptop.until(lambda: two.there.ssm.sent)
    process.kill()
    process.wait()
    refused = two.launch("launch", "--batch-queue", "q2.json")
    assert refused.returncode == 2
    assert f"queue 'q2' has a machine: {two.machine}" in refused.stderr
    shown = two.call("ls", "--region", "us-east-1", "--json")
    assert '"queues": ["q", "q2"]' in shown.stdout
    agent.deaf = False
    assert two.call("submit", "q2.json", "--on").returncode == 0
