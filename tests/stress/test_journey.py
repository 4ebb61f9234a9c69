"""The user's whole journey: a queue goes to EC2, is looked at, and comes back; the machine ends."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from cloud import REGION, CloudMachine
from journey import PATIENCE, Journey

WORK = "/var/lib/runner/queues/q/work"


@pytest.fixture
def journey(lab_root: Path, bundle: Path, tmp_path: Path) -> Iterator[Journey]:
    with ExitStack() as stack:
        yield Journey(lab_root, bundle, tmp_path, stack)


def test_from_launch_to_results(journey: Journey) -> None:
    """A queue could not be sent to EC2, followed and fetched from a laptop, or cost money after."""
    code = journey.home / "code"
    code.mkdir()
    (code / "greeting").write_text("hello\n")
    waits = "until [ -e go ]; do sleep 0.05; done"
    journey.write(
        {"job_id": "first", "command": "cat greeting; echo made > out", "result_paths": ["out"]},
        {"job_id": "talks", "command": f"echo begun; {waits}; echo over"},
        {"job_id": "stuck", "command": "sleep 600"},
        {"job_id": "last", "command": "id -un", "depends_on": ["first", "talks"]},
        max_parallel_jobs=2,
    )
    instance = journey.launch("--workdir", "code", "--keep-on-failure", "1s")
    there = journey.machine(instance)
    begun = time.monotonic()
    there.machine.boot(wait=False)
    # It boots, and its agent has not registered: an answer all the same.
    told = journey.call("status", instance, code=106)
    assert instance in told.stdout + told.stderr
    try:
        there.machine.wait_for(lambda: journey.stored_state(), "a state in the bucket", 120)
    except AssertionError:
        print(there.machine.journal("-u", "runner"))
        raise
    print(f"launch to the first state: {time.monotonic() - begun:.1f} s")
    journey.register(there)
    there.machine.wait_for(
        lambda: journey.job("q", "talks")["status"] == "running", "the job, seen from the laptop"
    )
    follows = journey.start("logs", "talks", "-f", "--on", instance)
    assert follows.stdout is not None
    assert follows.stdout.readline() == "begun\n"
    there.machine.wait_for(
        lambda: journey.job(instance, "stuck")["status"] == "running", "the second job"
    )
    journey.call("cancel", "stuck", "--on", instance)
    there.machine.write(f"{WORK}/go", "")
    assert follows.communicate(timeout=60)[0] == "over\n"
    assert follows.returncode == 0
    assert there.machine.wait_end(180) == 0, "it ends itself"
    assert journey.cloud.state(instance) == "terminated"
    del journey.ssm.agents[instance]

    told = journey.data("status", "q")
    assert (told["status"], told["source"]["from"]) == ("cancelled", "s3")
    assert {job["job_id"]: job["status"] for job in told["jobs"]} == {
        "first": "completed",
        "talks": "completed",
        "stuck": "cancelled",
        "last": "completed",
    }
    journey.call("results", "q", "--output", "fetched")
    assert (journey.home / "fetched/first/stdout.log").read_text() == "hello\n"
    assert (journey.home / "fetched/first/out").read_text() == "made\n"
    assert json.loads((journey.home / "fetched/queue-state.json").read_text())["jobs"]


def test_a_boot_that_fails_and_then_two_queues_on_one_machine(journey: Journey) -> None:
    """Who waits would not hear that nothing comes; or a second queue be lost with its machine."""
    waits = "until [ -e go ]; do sleep 0.05; done"
    journey.write({"job_id": "a", "command": f"{waits}; echo one > out", "result_paths": ["out"]})
    words = ("launch", "--batch-queue", "queue.json", "--instance-type", "t3.medium")
    waiting = journey.start(*words, "--bundle", str(journey.bundle), "--wait")
    assert waiting.stdout is not None
    broken = waiting.stdout.readline().split()[0]
    there = journey.machine(broken)
    s3 = journey.cloud.admin("s3")
    shipped = s3.list_objects_v2(Bucket=journey.cloud.bucket, Prefix="runner/launches/")
    (document,) = (o["Key"] for o in shipped["Contents"] if o["Key"].endswith("/queue.json"))
    s3.delete_object(Bucket=journey.cloud.bucket, Key=document)
    there.machine.boot(wait=False)
    _, said = waiting.communicate(timeout=PATIENCE)
    assert waiting.returncode == 1, said
    assert f"{broken} is booting: " in said
    assert f"the boot of {broken} has failed: s3://" in said and "404 NoSuchKey" in said
    assert there.machine.wait_end(180) == 0, "it ends itself"
    # What EC2 makes of that: InstanceInitiatedShutdownBehavior is "terminate".
    journey.cloud.admin("ec2").terminate_instances(InstanceIds=[broken])

    instance = journey.launch("--keep-on-failure", "1s")
    assert instance != broken
    there = journey.machine(instance)
    journey.write({"job_id": "b", "command": "echo two"}, queue_id="q2")
    there.machine.boot(wait=False)
    there.machine.wait_for(lambda: journey.stored_state(), "a state in the bucket", 120)
    journey.register(there)
    journey.call("submit", "queue.json", "--on", instance)
    follows = journey.start("logs", "b", "-f", "--on", instance, "--queue", "q2")
    there.machine.write(f"{WORK}/go", "")
    assert journey.call("wait", "q2", "--region", REGION).stdout == "q2 completed\n"
    assert there.machine.wait_end(180) == 0
    assert follows.communicate(timeout=60)[0] == "two\n"
    for queue, path, text in (("q", "a/out", "one\n"), ("q2", "b/stdout.log", "two\n")):
        journey.call("results", queue, "--output", f"fetched-{queue}")
        assert (journey.home / f"fetched-{queue}" / path).read_text() == text


# It saves with builtins, and ends when it is let go.
TRAIN = """
read -r step < ckpt/step 2> /dev/null || step=0
echo "attempt $JOB_ATTEMPT at $step"
mkdir -p ckpt
trap 'echo $((step + 10)) > ckpt/step; exit 0' TERM
touch began.$JOB_ATTEMPT
until [ -e go ]; do sleep 0.05; done
echo "trained $step" > model
"""


def test_a_spot_machine_is_interrupted_restarted_and_replaced(journey: Journey) -> None:
    """Work would be lost with a spot machine, or two machines would run the same queue."""
    journey.write(
        {"job_id": "prepare", "command": "echo prepared >> runs; cp runs out",
         "result_paths": ["out"]},
        {"job_id": "train", "command": TRAIN, "depends_on": ["prepare"],
         "checkpoint_paths": ["ckpt/*"], "result_paths": ["model"]},
    )  # fmt: skip
    old = journey.machine(journey.launch("--spot"), spot=True)
    old.machine.boot(wait=False)
    _interrupted(journey, old, attempt=1)
    # EC2 starts it again: the same disk, and the user-data doesn't run again.
    old.imds.data.pop("spot/instance-action")
    old.machine.boot(wait=False)
    _interrupted(journey, old, attempt=2)

    instance = journey.launch("--on-demand", verb=("resume", "q"))
    assert journey.cloud.state(old.instance_id) == "terminated"
    new = journey.machine(instance)
    new.machine.boot(wait=False)
    new.machine.wait_for(lambda: new.machine.exists(f"{WORK}/began.3"), "its work", 240)
    # The old one comes back all the same, as after an end that EC2 did not keep.
    old.imds.data.pop("spot/instance-action")
    old.machine.boot(wait=False)
    assert old.machine.wait_end(240) == 0, "there is nothing for it to do: it ends itself"
    assert "taken over" in old.machine.journal("-u", "runner")
    new.machine.write(f"{WORK}/go", "")
    assert new.machine.wait_end(180) == 0
    told = {job["job_id"]: job for job in journey.stored_state()["jobs"]}
    assert told["prepare"]["attempt"] == 1 and told["train"]["status"] == "completed"
    assert not old.machine.exists(f"{WORK}/began.3"), "it ran on two machines"
    assert journey.cloud.get("queues/q/jobs/train/model") == b"trained 20\n"


def _interrupted(journey: Journey, there: CloudMachine, attempt: int) -> None:
    there.machine.wait_for(lambda: there.machine.exists(f"{WORK}/began.{attempt}"), "its work", 240)
    there.imds.announce_spot(120)
    there.machine.wait_for(
        lambda: journey.stored_state().get("status") == "interrupted", "the stored state"
    )
    there.machine.power_cut()
