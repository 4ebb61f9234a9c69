"""`launch --wait`: what whoever waits is told, and what ends the waiting."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from unittest.mock import patch

import pytest
from account import Laptop
from ec2_faults import Hold, Pass, Refuse, RudeEc2

from runner.cli.launch_wait import Pace, wait
from runner.targets.ec2.launches import Launch

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
        self.then: dict[str, Callable[[], object]] = {}

    def state(self, status: str, *jobs: str) -> None:
        """What the machine has stored."""
        listed = [{"job_id": f"j{n}", "status": each} for n, each in enumerate(jobs)]
        body = json.dumps({"queue_id": self.launch.queue_id, "status": status, "jobs": listed})
        key = f"queues/{self.launch.queue_id}/queue-state.json"
        self.laptop.account.endpoint.client().put_object(
            Bucket=self.laptop.bucket, Key=key, Body=body.encode()
        )

    def hear(self, line: str) -> None:
        self.said.append(line)
        for start, happens in list(self.then.items()):
            if line.startswith(start):
                del self.then[start]
                happens()

    def wait(self) -> int:
        with patch.dict(os.environ, self.laptop.env, clear=True):
            return wait(self.launch, self.hear, FAST)


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


def test_ctrl_c_detaches_and_says_so(laptop: Laptop, ec2: RudeEc2) -> None:
    """The user would not dare to press it."""
    ec2.order("S3.GET", Pass(), Pass(), Hold())
    process = laptop.start("--wait")
    ec2.wait_held()
    os.kill(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 130
    (machine,) = laptop.instances()
    assert f"{machine['InstanceId']} t3.medium on-demand in us-east-1a: launched" in out
    told = f"no longer waiting; the queue goes on: runner-status {machine['InstanceId']}"
    assert told in err
    assert machine["State"]["Name"] == "running"
