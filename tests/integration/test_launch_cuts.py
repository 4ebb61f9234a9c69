"""`launch` killed, or interrupted, at any instant; then the same command again: one machine."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest
from account import Laptop, tags_of
from ec2_faults import Hold, Pass, RudeEc2


def cut(laptop: Laptop, ec2: RudeEc2, number: int) -> tuple[int, str]:
    """Start a launch, and send it the signal once a call is held; its exit code and words."""
    process = laptop.start()
    try:
        ec2.wait_held()
        os.kill(process.pid, number)
        out, err = process.communicate(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    print(out, err)
    ec2.release()
    return process.returncode, err


AT = {
    "looking": ("DescribeSubnets", [Hold()]),
    "shipping the document": ("S3.PUT", [Pass(), Hold(done=True)]),
    "shipping the bundle": ("S3.PUT", [Pass(), Pass(), Hold()]),
    "remembering in the bucket": ("S3.PUT", [Pass(), Pass(), Pass(), Hold(done=True)]),
    "asking EC2, which is slow": ("RunInstances", [Hold()]),
    "asking EC2, which has launched": ("RunInstances", [Hold(done=True)]),
    "remembering the machine": ("S3.PUT", [Pass(), Pass(), Pass(), Pass(), Hold()]),
}


@pytest.mark.parametrize("at", AT)
def test_the_same_command_after_a_sigkill_makes_one_machine(
    at: str, ec2: RudeEc2, laptop: Laptop
) -> None:
    """A second machine would run for nobody, or none would, and the record say so."""
    operation, faults = AT[at]
    ec2.order(operation, *faults)
    assert cut(laptop, ec2, signal.SIGKILL)[0] == -signal.SIGKILL
    again = laptop.launch()
    assert again.returncode == 0
    (machine,) = laptop.instances()
    assert f"{machine['InstanceId']} t3.medium on-demand in us-east-1a: launched" in again.stdout
    assert laptop.record()["instance_id"] == machine["InstanceId"]
    index = laptop.read(f"runner/index/{laptop.queue_id}.json")
    assert index["instance_id"] == machine["InstanceId"]
    assert tags_of(machine)["runner:launch"] == index["launch"]
    assert len({asked["ClientToken"] for asked in ec2.launches}) == 1


def test_ctrl_c_while_ec2_is_asked_says_what_to_do(ec2: RudeEc2, laptop: Laptop) -> None:
    """The user would not know whether there is a machine, and launch another to be sure."""
    ec2.order("RunInstances", Hold(done=True))
    code, err = cut(laptop, ec2, signal.SIGINT)
    assert code == 130
    assert "cut off; the same command again goes on, and launches nothing twice" in err
    assert laptop.launch().returncode == 0
    assert len(laptop.instances()) == 1


def test_ctrl_c_before_anything_was_done_says_so(ec2: RudeEc2, laptop: Laptop) -> None:
    """Who changes his mind in time would go looking for a machine."""
    ec2.order("DescribeSubnets", Hold())
    code, err = cut(laptop, ec2, signal.SIGINT)
    assert code == 130
    assert "cut off: nothing was launched" in err
    assert laptop.stored() == []


def test_a_document_without_an_id_is_the_same_queue_after_a_cut(
    ec2: RudeEc2, laptop: Laptop
) -> None:
    """Its next launch would have another id, and find nothing of the first."""
    laptop.queue_id = None
    laptop.write()
    ec2.order("RunInstances", Hold(done=True))
    cut(laptop, ec2, signal.SIGKILL)
    again = laptop.launch()
    (machine,) = laptop.instances()
    assert tags_of(machine)["runner:queue"].startswith("queue-20")
    assert f"runner results {tags_of(machine)['runner:queue']}" in again.stdout
    third = laptop.launch()  # was told: a new command is a new queue
    assert third.returncode == 0
    assert len(laptop.instances()) == 2


def test_other_flags_after_a_cut_are_refused(ec2: RudeEc2, laptop: Laptop) -> None:
    """A second machine would run for the same queue."""
    ec2.order("RunInstances", Hold(done=True))
    cut(laptop, ec2, signal.SIGKILL)
    other = laptop.launch("--disk-size", "50")
    assert other.returncode == 2
    assert "has a machine" in other.stderr
    assert laptop.launch().returncode == 0
    assert len(laptop.instances()) == 1
