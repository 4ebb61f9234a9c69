"""`launch --wait`: what whoever waits is told, and what ends the waiting."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import pytest
from account import Laptop
from ec2_faults import Refuse, RudeEc2

from runner.cli.launching.wait import Pace, wait
from runner.targets.ec2.launch.local_launches import Launch

pytestmark = pytest.mark.long
FAST = Pace(every=0.02, machine=0.05)


class World:
    """A launched machine and its bucket; what is said is kept, and may have something happen."""

    def __init__(self, laptop: Laptop) -> None:
        self.laptop = laptop
        assert laptop.launch().returncode == 0
        record = laptop.record()
        self.instance_id = record["instance_id"]
        self.launch = Launch(
            queue_id=record["queue_id"],
            store=record["store"],
            region=record["region"],
            launch=record["launch"],
            launched_at=0.0,
            expires=0.0,
            instance_id=self.instance_id,
        )
        self.said: list[str] = []
        self.born = 0.0
        self.then: dict[str, Callable[[], object]] = {}

    def state(self, status: str, *jobs: str) -> None:
        """What the machine has stored."""
        listed = [{"job_id": f"j{n}", "status": each} for n, each in enumerate(jobs)]
        body = json.dumps({"queue_id": self.launch.queue_id, "status": status, "jobs": listed})
        key = f"queues/{self.launch.queue_id}/queue-state.json"
        self.laptop.account.endpoint.client().put_object(
            Bucket=self.laptop.bucket, Key=key, Body=body.encode()
        )

    def report(self, **told: object) -> None:
        """What the machine has stored of its boot."""
        self.report_is({"version": 1, **told})

    def report_is(self, value: object) -> None:
        self.laptop.store(f"runner/launches/{self.launch.launch}/bootstrap.json", value)

    def no_state(self) -> None:
        key = f"queues/{self.launch.queue_id}/queue-state.json"
        s3 = self.laptop.account.endpoint.client()
        s3.delete_object(Bucket=self.laptop.bucket, Key=key)

    def machine_is_younger(self) -> None:
        """EC2 has launched it long after all that is stored now."""
        self.born = time.time() + 3600

    def younger_state(self) -> None:
        """The machine stores that the queue has ended."""
        self.born = 0.0
        self.state("completed", "completed")

    def hear(self, line: str) -> None:
        self.said.append(line)
        for start, happens in list(self.then.items()):
            if line.startswith(start):
                del self.then[start]
                happens()

    def wait(self) -> int:
        with patch.dict(os.environ, self.laptop.env, clear=True):
            with patch("runner.aws.ec2._began", self._began):
                return wait(self.launch, self.hear, FAST)

    def _began(self, instance: dict[str, Any]) -> float:
        """By EC2: when it was launched, unless a test says otherwise."""
        return self.born or float(instance["LaunchTime"].timestamp())


@pytest.mark.parametrize(
    ("status", "code"), [("completed", 0), ("failed", 100), ("cancelled", 103)]
)
def test_it_ends_with_the_queue_and_its_code(laptop: Laptop, status: str, code: int) -> None:
    """A script that waits would go on with results that aren't there."""
    world = World(laptop)
    world.state("running", "completed", "running")
    world.then["running"] = lambda: world.state(status, "completed", "completed")
    assert world.wait() == code
    assert world.said == ["running (1 completed, 1 running)", f"{status} (2 completed)"]


def test_a_machine_that_ends_before_its_queue_is_told_with_its_log(laptop: Laptop) -> None:
    """The waiting would never end, and the reason lie in a bucket unread."""
    world = World(laptop)
    world.state("running", "running")
    key = f"runner/launches/{world.launch.launch}/bootstrap.log"
    s3 = laptop.account.endpoint.client()
    s3.put_object(Bucket=laptop.bucket, Key=key, Body=b"no room")
    ec2 = laptop.account.client("ec2")
    world.then["running"] = lambda: ec2.terminate_instances(InstanceIds=[world.instance_id])
    assert world.wait() == 104
    assert world.said[1].startswith(f"{world.instance_id} has ended: ")
    assert world.said[2] == f"what it did at its start: s3://{laptop.bucket}/{key}"


def test_a_stopped_machine_is_waited_for(laptop: Laptop) -> None:
    """A spot machine that EC2 took comes back: who had given up would not see the end."""
    world = World(laptop)
    world.state("interrupted", "interrupted")
    ec2 = laptop.account.client("ec2")
    world.then["interrupted"] = lambda: ec2.stop_instances(InstanceIds=[world.instance_id])
    world.then[f"{world.instance_id} is stopped"] = lambda: world.state("completed", "completed")
    assert world.wait() == 0


def test_expired_credentials_end_the_waiting_and_not_the_queue(
    laptop: Laptop, ec2: RudeEc2
) -> None:
    """The user would fear for the queue, and launch another."""
    world = World(laptop)
    ec2.order("S3.GET", Refuse("ExpiredToken", "The provided token has expired."), times=9)
    assert world.wait() == 106
    assert "your AWS credentials have expired here" in world.said[0]
    assert world.said[1] == f"the machine goes on; log in, then: runner-status {world.instance_id}"


def test_what_passes_is_waited_out(laptop: Laptop, ec2: RudeEc2) -> None:
    """One bad minute of S3 would end a night's waiting."""
    world = World(laptop)
    ec2.order("S3.GET", Refuse("SlowDown", "Please reduce your request rate.", 503), times=3)
    world.state("completed", "completed")
    assert world.wait() == 0
    assert world.said[0].startswith("AWS doesn't answer (SlowDown")


def test_ctrl_c_detaches_and_says_so(laptop: Laptop) -> None:
    """The user would not dare to press it."""
    process = laptop.start("--wait")
    assert process.stderr is not None
    while "is booting" not in (said := process.stderr.readline()):
        assert said, "it waits for nothing"
    os.kill(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 130
    (machine,) = laptop.instances()
    assert f"{machine['InstanceId']} t3.medium on-demand in us-east-1a: launched" in out
    told = f"no longer waiting; the queue goes on: runner-status {machine['InstanceId']}"
    assert told in err
    assert machine["State"]["Name"] == "running"


def test_the_boots_phases_are_told(laptop: Laptop) -> None:
    """Nobody would know whether a machine that is silent for minutes boots, or hangs."""
    world = World(laptop)
    name = world.instance_id
    report = {"outcome": "booting", "instance_id": name, "phases": [{"phase": "credentials"}]}

    def next_phase(phase: str) -> None:
        report["phases"] = [{"phase": phase}]
        world.report(**report)

    world.then[f"{name} is booting: nothing heard"] = lambda: world.report(**report)
    world.then[f"{name} is booting: credentials"] = lambda: next_phase("installed")
    world.then[f"{name} is booting: installed"] = lambda: world.state("completed", "completed")
    assert world.wait() == 0
    assert world.said[0].startswith(f"{name} is booting: nothing heard of it yet")
    assert world.said[1:] == [
        f"{name} is booting: credentials done",
        f"{name} is booting: installed done",
        "completed (1 completed)",
    ]


@pytest.mark.parametrize("former", [False, True])
def test_a_boot_that_has_failed_is_a_launch_that_has(laptop: Laptop, former: bool) -> None:
    """Somebody would wait for hours for a machine that is only kept for a look at it."""
    world = World(laptop)
    if former:
        # What a run before has left is no word of this machine's.
        world.state("interrupted", "interrupted")
        world.machine_is_younger()
    name = world.instance_id
    world.then[f"{name} is booting"] = lambda: world.report(
        outcome="failed", error="s3://b/k:\n404 NoSuchKey", phases=[{"phase": "credentials"}]
    )
    assert world.wait() == 1
    key = f"runner/launches/{world.launch.launch}/bootstrap.log"
    assert world.said[-3:] == [
        f"the boot of {name} has failed: s3://b/k: 404 NoSuchKey (after: credentials)",
        f"its log: aws s3 cp s3://{laptop.bucket}/{key} -",
        f"it ends by itself, and now by: runner terminate {name}",
    ]


def test_a_machine_that_ends_while_it_boots_is_a_launch_that_has_failed(laptop: Laptop) -> None:
    """EC2's reason would stay unread, and the queue pass for one that was interrupted."""
    world = World(laptop)
    ec2 = laptop.account.client("ec2")
    name = world.instance_id
    world.then[f"{name} is booting"] = lambda: ec2.terminate_instances(InstanceIds=[name])
    assert world.wait() == 1
    told = f'{name} has ended before it began the queue: EC2 says "Client.UserInitiatedShutdown'
    assert world.said[1].startswith(told)


def test_the_end_of_a_run_before_is_not_the_end_of_this_one(laptop: Laptop) -> None:
    """`resume --retry-failed --wait` would end at once, with the code of what was to be mended."""
    world = World(laptop)
    world.state("failed", "failed")
    world.machine_is_younger()
    name = world.instance_id
    world.then[f"{name} is booting"] = lambda: world.report(outcome="ready", instance_id=name)
    world.then[f"{name} has booted"] = world.younger_state
    assert world.wait() == 0
    assert world.said[-1] == "completed (1 completed)"


def test_junk_in_place_of_a_report_is_none(laptop: Laptop) -> None:
    """What a machine's role may write would end the waiting, or pass for a failure."""
    world = World(laptop)
    for junk in ({}, {"outcome": 3}, {"outcome": "failed", "instance_id": "i-0123"}, [1]):
        world.report_is(junk)
        world.said.clear()
        world.then[f"{world.instance_id} is booting"] = lambda: world.state("completed")
        assert world.wait() == 0
        assert len(world.said) == 2
        world.no_state()
