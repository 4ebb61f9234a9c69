"""What runs in EC2, shown and ended by the real commands: `ls`, `terminate`, `reap`."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import boto3
import pytest
from ec2_stub import Ec2Stub
from s3_endpoint import Endpoint
from warm import Process
from world import World

from runner.targets.ec2 import names

HOUR = 3600.0


def at(wall: float) -> str:
    return datetime.fromtimestamp(wall, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def tags(
    queue: str = "q", *, expires_in: float = HOUR, price: str | None = "1.50"
) -> dict[str, str]:
    """As a launch sets them."""
    told = {
        names.QUEUE: queue,
        names.LAUNCH: "l1",
        names.EXPIRES: at(time.time() + expires_in),
        names.TERMINATES: "terminate",
    }
    return told if price is None else {**told, names.PRICE: price}


@pytest.fixture
def world(world: World) -> World:
    """Its commands are forked from a process that has boto3."""
    world.popen = Process
    return world


@pytest.fixture
def stub() -> Iterator[Ec2Stub]:
    with Ec2Stub("us-east-1", "eu-west-1") as made:
        yield made


def call(world: World, stub: Ec2Stub, *words: str) -> subprocess.CompletedProcess[str]:
    return world.call(*words, env=stub.env)


def spot(stub: Ec2Stub, told: dict[str, str], *, age: float = HOUR) -> tuple[str, str]:
    """A spot machine and its request, both tagged."""
    began = time.time() - age
    request = stub.request(told, created=began)
    return stub.instance(told, launched=began, request=request), request


def test_ls_shows_what_runs_and_what_it_costs(world: World, stub: Ec2Stub) -> None:
    """A machine would cost money, and nobody know."""
    instance, request = spot(stub, tags(), age=2 * HOUR)
    stranger = stub.instance({"Name": "db"}, launched=0.0)
    unknown = stub.instance(tags("p", price=None), launched=time.time())
    shown = call(world, stub, "ls")
    assert shown.returncode == 0, shown.stderr
    assert shown.stderr == "" and stranger not in shown.stdout
    line = next(line for line in shown.stdout.splitlines() if instance in line)
    for word in ("q", "running", "g5.xlarge", "spot", "us-east-1a", "2h", "in 59m"):
        assert f" {word} " in f"{line} ", word
    # Until it is asked it costs a little more, on a busy machine.
    assert " $3.0" in line
    last = shown.stdout.splitlines()[-1]
    assert last.startswith("total: 2 instances; at least $3.0")
    assert last.endswith(" so far, $1.50 an hour now (1 of unknown cost)")
    view = json.loads(call(world, stub, "ls", "--json").stdout)
    first = next(one for one in view["found"] if one["id"] == instance)
    assert (first["spot_request"], first["overdue"]) == (request, False)
    assert first["cost"] == pytest.approx(3.0, abs=0.09)
    assert next(one for one in view["found"] if one["id"] == unknown)["cost"] is None


def test_ls_asks_all_regions_and_drops_none_silently(world: World, stub: Ec2Stub) -> None:
    """What runs in a region that doesn't answer would look like nothing."""
    there = stub.instance(tags("far"), region="eu-west-1", launched=time.time())
    assert there not in call(world, stub, "ls").stdout
    assert there in call(world, stub, "ls", "--region", "all").stdout
    stub.fail["us-east-1", "DescribeInstances"] = "UnauthorizedOperation"
    shown = call(world, stub, "ls", "--region", "eu-west-1,us-east-1")
    assert shown.returncode == 1 and there in shown.stdout
    assert "us-east-1 was not looked at: UnauthorizedOperation" in shown.stderr
    wrong = call(world, stub, "ls", "--region", "Frankfurt")
    assert wrong.returncode == 2 and "'Frankfurt' is no region" in wrong.stderr.replace('"', "'")


def test_an_open_request_without_a_machine_is_shown(world: World, stub: Ec2Stub) -> None:
    """EC2 would launch a machine for it one day, out of the blue."""
    request = stub.request(tags(), state="open", created=time.time())
    cancelled = stub.request(tags(), state="cancelled", created=time.time())
    shown = call(world, stub, "ls")
    assert request in shown.stdout and cancelled not in shown.stdout
    assert "request open" in shown.stdout and "may launch a machine for it" in shown.stdout
    assert "0 instances and 1 open spot request" in shown.stdout


def test_terminate_cancels_the_request_first(world: World, stub: Ec2Stub) -> None:
    """EC2 would launch another machine in its place."""
    stub.looks = 2
    instance, request = spot(stub, tags())
    done = call(world, stub, "terminate", "--yes", instance)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{instance}: ended ({request}, {instance})\n"
    actions = [action for _, action, _ in stub.calls]
    assert actions.index("CancelSpotInstanceRequests") < actions.index("TerminateInstances")
    assert stub.alive() == [] and stub.state(instance) == "terminated"
    again = call(world, stub, "terminate", "--yes", "q", "--json")
    assert again.returncode == 0
    assert json.loads(again.stdout) == {"ended": [], "ended_before": [instance], "failed": []}
    assert len(stub.asked("TerminateInstances")) == 1


def test_what_a_request_launches_meanwhile_is_ended_too(world: World, stub: Ec2Stub) -> None:
    """A machine that comes up while its request is cancelled would be left, without a tag."""
    request = stub.request(tags(), state="open", created=time.time())

    def launch(region: str, action: str) -> None:
        if action == "CancelSpotInstanceRequests" and not stub.instances[region]:
            stub.instance({}, region=region, launched=time.time(), request=request)

    stub.on_call = launch
    done = call(world, stub, "terminate", "--yes", request)
    assert done.returncode == 0, done.stderr
    assert len(stub.instances["us-east-1"]) == 1 and stub.alive() == []


def test_a_relaunched_machine_without_tags_is_found_by_its_request(
    world: World, stub: Ec2Stub
) -> None:
    """Who terminates by hand gets another machine, which nobody would find."""
    instance, _ = spot(stub, tags())
    client = boto3.client(
        "ec2",
        endpoint_url=stub.url,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    client.terminate_instances(InstanceIds=[instance])
    client.close()
    (second,) = stub.alive()
    assert second in call(world, stub, "ls").stdout
    assert call(world, stub, "terminate", "--yes", "q").returncode == 0
    assert stub.alive() == []


def test_a_request_that_cannot_be_cancelled_keeps_its_machine(world: World, stub: Ec2Stub) -> None:
    """Each end would launch the next machine."""
    instance, request = spot(stub, tags())
    other = stub.instance(tags(), launched=time.time())
    stub.fail["us-east-1", "CancelSpotInstanceRequests"] = "UnauthorizedOperation"
    done = call(world, stub, "terminate", "--yes", "q")
    assert done.returncode == 1
    assert f"{instance}: NOT ended: its spot request {request} can't be cancelled" in done.stdout
    assert f"{other}: ended" in done.stdout
    assert stub.alive() == [instance], "one that fails keeps none of the others"


def test_a_stopped_spot_machine_goes_with_its_request(world: World, stub: Ec2Stub) -> None:
    """EC2 would start it again one day, or its disk be paid for without end."""
    instance, request = spot(stub, tags())
    record = stub.instances["us-east-1"][instance]
    record["State"] = {"Name": "stopped"}
    record["StateReason"] = {"Message": "Server.SpotInstanceStopped: no capacity"}
    assert "Server.SpotInstanceStopped: no capacity" in call(world, stub, "ls").stdout
    done = call(world, stub, "terminate", "--yes", instance)
    assert done.returncode == 0 and stub.alive() == [] and stub.state(request) == "cancelled"


def test_on_a_terminal_it_asks(world: World, stub: Ec2Stub) -> None:
    """A command from the history would end the wrong machine."""
    instance = stub.instance(tags(), launched=time.time())
    for answer, left in ((b"\n", [instance]), (b"y\n", [])):
        ours, theirs = os.openpty()
        asked = world.start("terminate", "q", env=stub.env, stdin=theirs, stderr=theirs)
        os.close(theirs)
        said = b""
        while b"[y/N]" not in said:
            said += os.read(ours, 4096)
        assert b"terminate: i-" in said and stub.alive() == [instance]
        os.write(ours, answer)
        assert asked.wait(20) == (1 if left else 0)
        os.close(ours)
        assert stub.alive() == left


def test_without_a_region_it_says_so(world: World, stub: Ec2Stub) -> None:
    """A traceback, or a list of nothing, would be the answer."""
    env = {name: value for name, value in stub.env.items() if "REGION" not in name}
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        world.env.pop(name, None)
    for words in (("ls",), ("reap", "--yes")):
        done = world.call(*words, env=env)
        assert done.returncode == 2 and "no region is set: give --region" in done.stderr


def test_terminate_refuses_what_is_not_ours(world: World, stub: Ec2Stub) -> None:
    """A typing error would end somebody's database."""
    stranger = stub.instance({"Name": "db"}, launched=0.0)
    ours = stub.instance(tags(), launched=time.time())
    refused = call(world, stub, "terminate", "--yes", ours, stranger)
    assert refused.returncode == 2 and "was not launched by runner" in refused.stderr
    missing = call(world, stub, "terminate", "--yes", ours, "i-0123456789abcdef0")
    assert missing.returncode == 102 and "--region all" in missing.stderr
    assert sorted(stub.alive()) == sorted([ours, stranger])


def test_reap_ends_what_is_overdue_and_nothing_else(world: World, stub: Ec2Stub) -> None:
    """Forgotten machines would cost money for ever; or living work be ended."""
    late, request = spot(stub, tags(expires_in=-HOUR), age=3 * HOUR)
    fine = stub.instance(tags(), launched=time.time() - 30 * HOUR)
    endless = {names.QUEUE: "e"}
    forever = stub.instance(endless, launched=time.time() - 30 * HOUR)
    open_one = stub.request(
        endless, state="open", created=time.time() - HOUR, valid_until=time.time() - 60
    )
    far = stub.instance(tags(expires_in=-60), region="eu-west-1", launched=time.time() - HOUR)
    dry = call(world, stub, "reap", "--region", "all", "--dry-run")
    assert dry.returncode == 0 and f"would end {late}: its lifetime was over 1h ago" in dry.stdout
    assert "$4.50 so far" in dry.stderr and stub.state(request) == "active"
    done = call(world, stub, "reap", "--yes", "--region", "all", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert {one["id"] for one in told["overdue"]} == {late, open_one, far}
    assert all(one["outcome"]["error"] is None for one in told["overdue"])
    assert sorted(stub.alive()) == sorted([fine, forever])
    assert (stub.state(request), stub.state(open_one)) == ("cancelled", "cancelled")
    older = call(world, stub, "reap", "--yes", "--older-than", "24h")
    assert older.returncode == 0 and f"{fine}: ended" in older.stdout
    assert stub.alive() == []
    assert call(world, stub, "reap", "--yes").stdout == "nothing is overdue in us-east-1\n"


def test_what_has_stopped_itself_is_left_and_its_disk_told(world: World, stub: Ec2Stub) -> None:
    """Somebody who kept a disk on purpose would lose it to cron; or pay for it and never know."""
    told = {**tags(expires_in=-9 * HOUR), names.TERMINATES: "stop"}
    own = {"launched": time.time() - 30 * HOUR, "state": "stopped"}
    kept = stub.instance(told, **own, _disk=200)
    unknown = stub.instance(told, **own)
    by_hand = stub.instance(tags(expires_in=-60), **own, _disk=30)
    stub.prices = {"gp3": 0.08, "io2": 0.125}
    view = json.loads(call(world, stub, "ls", "--json").stdout)
    found = {one["id"]: one for one in view["found"]}
    disks = [
        (one["disk_gib"], one["disk_cost_per_month"]) for one in map(found.get, (kept, unknown))
    ]
    assert disks == [(200, pytest.approx(16.0)), (None, None)]
    assert (found[kept]["overdue"], found[by_hand]["overdue"]) == (False, True)
    shown = call(world, stub, "ls").stdout
    assert "its disk of 200 GiB costs on, $16.00 a month" in shown
    assert shown.endswith("; disks of 3 stopped: at least $18.40 a month\n")
    done = call(world, stub, "reap", "--yes", "--older-than", "1h")
    assert done.stdout == f"{by_hand}: ended ({by_hand})\n"
    assert "2 machines that have stopped by --on-complete stop: left" in done.stderr
    assert sorted(stub.alive()) == sorted([kept, unknown])
    young = call(world, stub, "reap", "--yes", "--stopped", "--older-than", "40h")
    assert young.stdout == "nothing is overdue in us-east-1\n"
    assert call(world, stub, "reap", "--yes", "--stopped").returncode == 0
    assert stub.alive() == []


def test_without_a_price_list_a_disk_has_its_size(world: World, stub: Ec2Stub) -> None:
    """A permission that is missing would hide the disk, or the machine; or a guess be shown."""
    told = {**tags(), names.TERMINATES: "stop"}
    stopped = stub.instance(told, launched=0.0, state="stopped", _disk=200)
    shown = call(world, stub, "ls")
    assert "its disk of 200 GiB costs on, at a price that isn't known" in shown.stdout
    stub.fail["us-east-1", "DescribeVolumes"] = "UnauthorizedOperation"
    shown = call(world, stub, "ls")
    assert shown.returncode == 0 and stopped in shown.stdout
    assert shown.stdout.endswith("; disks of 1 stopped: cost not known\n")


@pytest.mark.parametrize("words", [("terminate", "q"), ("reap",), ("reap", "--stopped")])
def test_who_can_not_be_asked_ends_nothing(
    world: World, stub: Ec2Stub, words: tuple[str, ...]
) -> None:
    """A script with a typing error, or without its terminal, would end machines for good."""
    instance = stub.instance(tags(expires_in=-60), launched=time.time() - HOUR)
    done = call(world, stub, *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert "--yes" in done.stderr and "nothing was done" in done.stderr
    assert stub.calls == [] and stub.alive() == [instance]


def test_nothing_is_overdue_only_where_it_was_looked(world: World, stub: Ec2Stub) -> None:
    """Cron would be told that all is well by a region that nobody has looked at."""
    stub.fail["us-east-1", "DescribeInstances"] = "UnauthorizedOperation"
    done = call(world, stub, "reap", "--dry-run")
    assert (done.returncode, done.stdout) == (1, "")
    assert "us-east-1 was not looked at: UnauthorizedOperation" in done.stderr
    some = call(world, stub, "reap", "--dry-run", "--region", "all")
    assert (some.returncode, some.stdout) == (1, "nothing is overdue in eu-west-1\n")
    unclear = call(world, stub, "terminate", "--yes", "q", "--region", "all")
    assert unclear.returncode == 1 and "us-east-1 was not looked at" in unclear.stderr


def test_a_price_that_nobody_pays_is_none(world: World, stub: Ec2Stub) -> None:
    """`$inf` would be the total of all machines, and their JSON none."""
    stub.instance(tags(price="1e308"), launched=time.time() - 20 * HOUR)
    stub.instance(tags(price="2"), launched=time.time() - HOUR)
    view = call(world, stub, "ls", "--json").stdout
    costs = [one["cost"] for one in json.loads(view, parse_constant=pytest.fail)["found"]]
    assert costs == [None, pytest.approx(2.0, abs=0.1)]
    assert "$inf" not in call(world, stub, "ls").stdout


@pytest.mark.long
def test_one_silent_region_holds_up_no_other(world: World) -> None:
    """A list of what costs money would come after a minute, or never."""
    regions = ("us-east-1", "us-west-2", "eu-west-1", "eu-north-1", "ap-south-1")
    with Ec2Stub(*regions) as stub:
        for number in range(500):
            region = regions[number % 5]
            stub.instance(tags(f"q{number}"), region=region, launched=time.time() - HOUR)
        for number in range(100):
            lost = stub.instance({}, launched=time.time())
            request = stub.request(tags(f"r{number}"), created=time.time())
            stub.requests["us-east-1"][request]["InstanceId"] = lost
        stub.silent = {"ap-south-1"}
        begun = time.monotonic()
        done = call(world, stub, "ls", "--json", "--region", "all")
        print(f"500 machines in five regions, one silent: {time.monotonic() - begun:.1f} s")
        told = json.loads(done.stdout)
        assert done.returncode == 1 and len(told["found"]) == 500
        assert [one["region"] for one in told["failed"]] == ["ap-south-1"]
        assert "ap-south-1 was not looked at: no answer within" in done.stderr
        # Boto3 alone would have asked three times, for 20 s each.
        asked = [action for region, action, _ in stub.calls if region == "us-east-1"]
        assert sorted(asked) == [
            "DescribeInstances", "DescribeInstances", "DescribeRegions",
            "DescribeSpotInstanceRequests",
        ]  # fmt: skip
        reaped = call(world, stub, "reap", "--dry-run", "--region", "all")
        assert reaped.returncode == 1 and "ap-south-1" not in reaped.stdout
        assert not stub.over.is_set(), "it was never answered"


def test_reap_goes_on_after_a_failure_and_says_so(world: World, stub: Ec2Stub) -> None:
    """One region's missing permission would leave the machines of all others running."""
    near = stub.instance(tags(expires_in=-60), launched=time.time() - HOUR)
    far = stub.instance(tags(expires_in=-60), region="eu-west-1", launched=time.time() - HOUR)
    stub.fail["us-east-1", "TerminateInstances"] = "UnauthorizedOperation"
    done = call(world, stub, "reap", "--yes", "--region", "us-east-1,eu-west-1")
    assert done.returncode == 1
    assert f"{near}: NOT ended: UnauthorizedOperation" in done.stdout
    assert f"{far}: ended" in done.stdout and stub.alive() == [near]


# -- on moto -----------------------------------------------------------------------------------


def launch(endpoint: Endpoint, told: dict[str, str]) -> str:
    client = ec2(endpoint)
    answer: dict[str, Any] = client.run_instances(
        ImageId="ami-12c6146b",
        InstanceType="t3.micro",
        MinCount=1,
        MaxCount=1,
        TagSpecifications=[
            {
                "ResourceType": "instance",
                "Tags": [{"Key": key, "Value": value} for key, value in told.items()],
            }
        ],
    )
    return str(answer["Instances"][0]["InstanceId"])


def ec2(endpoint: Endpoint) -> Any:
    return boto3.client(
        "ec2",
        endpoint_url=endpoint.url,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )


def test_it_tells_what_is_lost_with_a_machine(world: World, endpoint: Endpoint) -> None:
    """A hurried person would end two days of work that are nowhere else."""
    bucket, queue = endpoint.bucket(), f"lost-{time.time_ns()}"
    state = {
        "queue_id": queue,
        "run_id": "r",
        "status": "running",
        "updated_at": at(time.time() - 7200),
        "jobs": [
            {"job_id": "a", "status": "completed", "attempt": 1},
            {"job_id": "b", "status": "running", "attempt": 1},
        ],
    }
    key = f"queues/{queue}/queue-state.json"
    endpoint.client().put_object(Bucket=bucket, Key=key, Body=json.dumps(state).encode())
    told = {**tags(queue), names.STORE: f"s3://{bucket}/queues/{queue}"}
    instance = launch(endpoint, told)
    assert instance in world.call("ls", env=endpoint.env).stdout
    done = world.call("terminate", "--yes", queue, env=endpoint.env)
    assert done.returncode == 0, done.stderr
    assert "unfinished jobs: 1 of 2; the state in S3 is 2h old" in done.stderr
    (reservation,) = ec2(endpoint).describe_instances(InstanceIds=[instance])["Reservations"]
    assert reservation["Instances"][0]["State"]["Name"] in ("shutting-down", "terminated")
    assert instance not in world.call("ls", env=endpoint.env).stdout
    assert instance in world.call("ls", "--all", env=endpoint.env).stdout
