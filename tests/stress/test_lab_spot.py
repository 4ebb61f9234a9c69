"""A spot machine that is taken away: installed from the bundle, EC2's metadata address, S3."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest
from imds import Imds
from installed import WORK, Server, queue
from s3_endpoint import Endpoint

METADATA = "http://169.254.169.254"
BUDGET = 100.0
"""Seconds after the notice in which everything is stored."""

PREPARE = "echo prepared >> runs; mkdir -p /tmp/prep; echo from-prepare > /tmp/prep/out"
# It saves with builtins: the third attempt has what it needs.
TRAIN = """
read -r step < ckpt/step 2> /dev/null || step=0
read -r out < /tmp/prep/out || exit 9
echo "attempt $JOB_ATTEMPT at $step with $out"
mkdir -p ckpt model
[ "$step" -ge 20 ] && { echo "trained $step" > model/m; exit 0; }
saves() { read -r told < "$RUNNER_SPOT_NOTICE"; echo "$told"; echo $((step + 10)) > ckpt/step; }
trap 'saves; exit 0' TERM
touch began.$JOB_ATTEMPT
while :; do sleep 0.05; done
"""


@pytest.fixture
def spot(server: Callable[..., Server], endpoint: Endpoint) -> Callable[[], tuple[Server, Imds]]:
    """Makes machines with a metadata service where EC2 has it; not yet booted."""

    def make() -> tuple[Server, Imds]:
        environment = {**endpoint.env, "AWS_EC2_METADATA_SERVICE_ENDPOINT": METADATA}
        environment["AWS_EC2_METADATA_DISABLED"] = "false"
        there = server(environment=environment)
        there.machine.forward(endpoint.port)
        return there, there.machine.imds()

    return make


def taken_away(there: Server, imds: Imds, attempt: int, stored: Callable[[], str]) -> None:
    """A notice, and two minutes that this test doesn't wait for."""
    there.machine.wait_for(lambda: there.machine.exists(f"{WORK}/began.{attempt}"), "its work")
    imds.announce_spot(120)
    begun = time.monotonic()
    # The state is the last that is stored.
    there.machine.wait_for(lambda: stored() == "interrupted", "the stored state")
    assert time.monotonic() - begun < BUDGET
    assert there.machine.running, "powered off by us, EC2 would not start it again"
    there.machine.power_cut()
    imds.data.clear()


def test_a_spot_machine_goes_on_on_the_same_disk_and_on_an_empty_one(
    spot: Callable[[], tuple[Server, Imds]], endpoint: Endpoint
) -> None:
    """Two minutes' notice, and the work of days would be gone with the machine."""
    bucket = endpoint.bucket()
    document = queue(
        {"job_id": "prepare", "command": PREPARE, "result_paths": ["/tmp/prep/*"]},
        {
            "job_id": "train",
            "command": TRAIN,
            "depends_on": ["prepare"],
            "checkpoint_paths": ["ckpt/*"],
            "result_paths": ["model/*"],
        },
        result_s3_bucket=bucket,
    )

    def stored() -> str:
        key = "queues/q/queue-state.json"
        there = key in endpoint.keys(bucket)
        return str(json.loads(endpoint.read(bucket, key))["status"]) if there else ""

    there, imds = spot()
    there.machine.boot()
    there.submit(document)
    taken_away(there, imds, 1, stored)
    log = endpoint.read(bucket, "queues/q/jobs/train/stdout.log").decode()
    assert '"action": "stop"' in log, "the job found the notice"
    saved = [key for key in endpoint.keys(bucket) if "/jobs/train/checkpoint/" in key]
    assert any(key.endswith("step") for key in saved)

    there.machine.boot()  # EC2 starts it again: the same disk, and an empty /tmp
    taken_away(there, imds, 2, stored)
    assert there.machine.read(f"{WORK}/runs") == "prepared\n"

    there, imds = spot()
    there.machine.boot()  # another machine, which knows nothing
    there.submit(document)
    told = there.wait_until("completed")
    assert (told["jobs"]["prepare"]["attempt"], told["jobs"]["train"]["attempt"]) == (1, 3)
    assert told["jobs"]["train"]["interruptions"] == 2
    assert not there.machine.exists(f"{WORK}/runs"), "prepare ran again"
    log = endpoint.read(bucket, "queues/q/jobs/train/stdout.log").decode()
    assert log == "attempt 3 at 20 with from-prepare\n"
    assert endpoint.read(bucket, "queues/q/jobs/train/m") == b"trained 20\n"


def test_a_metadata_service_out_of_order_is_no_jobs_business(
    spot: Callable[[], tuple[Server, Imds]],
) -> None:
    """Jobs would wait for a service that hangs, or the notice be missed once it works again."""
    there, imds = spot()
    imds.mood = "hang"
    there.machine.boot()
    waits = "until [ -e next.$JOB_ID ]; do sleep 0.05; done"
    moods = ("hang", "500", "no-tokens", "drip")
    jobs = [{"job_id": mood, "command": waits} for mood in moods]
    there.submit(queue(*jobs, {"job_id": "last", "command": "sleep 600"}))
    for mood in moods:
        there.wait_for_jobs(**{mood: "running"})
        imds.mood = mood
        asked = len(imds.asked)
        there.machine.wait_for(lambda asked=asked: len(imds.asked) > asked, f"a look at {mood}")
        there.machine.write(f"{WORK}/next.{mood}", "")
        there.wait_for_jobs(**{mood: "completed"})
    imds.mood = "well"
    imds.announce_spot(120)
    told = there.wait_until("interrupted")
    assert told["jobs"]["last"]["status"] == "interrupted"
