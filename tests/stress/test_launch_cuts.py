"""`launch` killed, or interrupted, at any instant; then the same command again: one machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess

import pytest
from account import Laptop, tags_of
from ec2_faults import Hold, Pass, RudeEc2
from resumed import alive, check_replacement, launch_to_resume

pytestmark = pytest.mark.share


def cut(laptop: Laptop, ec2: RudeEc2, number: int, *words: str) -> tuple[int, str]:
    """Start a launch, or what the words say, and send it the signal once a call is held; its exit
    code and words."""
    process = laptop.start_command(*words) if words else laptop.start()
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


STORAGE = {
    "shipping the document": ("S3.PUT", [Pass(), Hold()]),
    "shipping the recipe": ("S3.PUT", [Pass(), Pass(), Hold(done=True)]),
}
ENDING = {
    "ending the machine before": ("TerminateInstances", [Hold()]),
    "having ended the machine before": ("TerminateInstances", [Hold(done=True)]),
    "claiming the queue": ("S3.PUT", [Pass(), Pass(), Pass(), Hold()]),
    "having claimed the queue": ("S3.PUT", [Pass(), Pass(), Pass(), Hold(done=True)]),
    "asking EC2, which is slow": ("RunInstances", [Hold()]),
    "asking EC2, which has launched": ("RunInstances", [Hold(done=True)]),
    "remembering the machine": ("S3.PUT", [*[Pass()] * 4, Hold()]),
}


@pytest.mark.parametrize("at", STORAGE | ENDING)
def test_the_same_resume_after_a_sigkill_is_the_same_replacement(
    at: str, ec2: RudeEc2, laptop: Laptop
) -> None:
    """The machine would be ended, and nothing know any more how its successor is to be."""
    first, words = launch_to_resume(laptop)
    (old,) = alive(laptop)
    operation, faults = (STORAGE | ENDING)[at]
    ec2.order(operation, *faults)
    launches = len(ec2.launches)
    assert cut(laptop, ec2, signal.SIGKILL, *words)[0] == -signal.SIGKILL
    if at in STORAGE:
        assert [each["InstanceId"] for each in alive(laptop)] == [old["InstanceId"]]
    again = laptop.command(*words)
    assert again.returncode == 0
    check_replacement(laptop, first)
    assert len({asked["ClientToken"] for asked in ec2.launches[launches:]}) == 1


def test_a_resume_that_is_cut_again_and_again(ec2: RudeEc2, laptop: Laptop) -> None:
    """Each cut would take something of how it was launched."""
    first, words = launch_to_resume(laptop)
    for held in (Hold(), Hold(done=True)):
        ec2.order("TerminateInstances", held)
        ec2.order("S3.PUT", Pass(), Pass(), Pass(), Hold())
        cut(laptop, ec2, signal.SIGKILL, *words)
        ec2.forget_orders()
    assert laptop.command(*words).returncode == 0
    check_replacement(laptop, first)


def test_nothing_is_ended_for_a_bundle_that_can_not_be_had(laptop: Laptop) -> None:
    """A machine that works would be ended for one that is never launched."""
    _, words = launch_to_resume(laptop)
    (old,) = alive(laptop)
    words = [word if word != str(laptop.bundle) else "/nowhere.tar.gz" for word in words]
    assert laptop.command(*words).returncode == 2
    assert [each["InstanceId"] for each in alive(laptop)] == [old["InstanceId"]]


def test_a_state_folder_that_goes_while_ec2_is_asked(ec2: RudeEc2, laptop: Laptop) -> None:
    """A machine would run whose id nobody was told."""
    folder = laptop.root / "state" / "runner" / "launches"
    ec2.order("RunInstances", Hold(done=True))
    process = laptop.start("--json")
    try:
        ec2.wait_held()
        folder.rename(folder.with_name("away"))
        folder.write_text("no folder")
        ec2.release()
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    (machine,) = laptop.instances()
    assert process.returncode == 1
    assert json.loads(out)["instance_id"] == machine["InstanceId"]
    assert f"{machine['InstanceId']} in us-east-1 is launched" in err
    assert "isn't recorded on this computer" in err
    assert f"runner terminate {machine['InstanceId']} --region us-east-1" in err
    assert laptop.read(f"runner/index/{laptop.queue_id}.json")["instance_id"]
    folder.unlink()
    folder.with_name("away").rename(folder)
    again = laptop.launch()
    assert again.returncode == 0 and machine["InstanceId"] in again.stdout
    assert laptop.record()["instance_id"] == machine["InstanceId"]
    assert len(laptop.instances()) == 1


def test_output_that_can_not_be_written(ec2: RudeEc2, laptop: Laptop) -> None:
    """Into a file on a full disk, a machine's id would be lost."""
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            laptop.words(), env=laptop.env, cwd=laptop.root, stdin=subprocess.DEVNULL,
            stdout=full, stderr=subprocess.PIPE, text=True, timeout=60,
        )  # fmt: skip
    (machine,) = laptop.instances()
    assert done.returncode == 1
    assert (
        f"end it with: runner terminate {machine['InstanceId']} --region us-east-1" in done.stderr
    )
    again = laptop.launch()
    assert again.returncode == 0 and machine["InstanceId"] in again.stdout
