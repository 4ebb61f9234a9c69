"""The whole command against an account: what it launches, what it ships, what it says."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from account import Account, Laptop, account, tags_of


@pytest.fixture(scope="module")
def aws() -> Iterator[Account]:
    with account() as made:
        yield made


@pytest.fixture
def laptop(aws: Account, tmp_path: Path) -> Laptop:
    return Laptop(aws, tmp_path)


def test_one_command_launches_one_tagged_machine(laptop: Laptop, aws: Account) -> None:
    """Nobody would find the machine, or what it is for, and it would never be ended."""
    done = laptop.launch("--tag", "team=blue")
    assert done.returncode == 0
    (machine,) = laptop.instances()
    tags = tags_of(machine)
    assert tags["runner:queue"] == tags["Name"] == laptop.queue_id
    assert tags["runner:store"] == f"s3://{laptop.bucket}/queues/{laptop.queue_id}"
    assert (tags["runner:on-complete"], tags["team"]) == ("terminate", "blue")
    record = laptop.record()
    assert record["instance_id"] == machine["InstanceId"]
    assert (tags["runner:launch"], tags["runner:expires"]) == (record["launch"], record["expires"])
    assert (
        laptop.read(f"runner/index/{laptop.queue_id}.json")["instance_id"] == record["instance_id"]
    )
    assert machine["MetadataOptions"]["HttpTokens"] == "required"
    volume = aws.client("ec2").describe_volumes(
        VolumeIds=[machine["BlockDeviceMappings"][0]["Ebs"]["VolumeId"]]
    )["Volumes"][0]
    assert (volume["Encrypted"], volume["Size"], volume["VolumeType"]) == (True, 30, "gp3")
    assert tags_of(volume)["runner:launch"] == record["launch"]


def test_it_ships_document_and_bundle_and_says_what_comes_next(laptop: Laptop) -> None:
    """A machine would have nothing to run, or something else than was asked for."""
    done = laptop.launch()
    document = laptop.read(f"runner/launches/{laptop.record()['launch']}/queue.json")
    assert document["queue_id"] == laptop.queue_id
    digest = hashlib.sha256(laptop.bundle.read_bytes()).hexdigest()[:32]
    assert f"runner/bundles/runner-x86_64-{digest}.tar.gz" in laptop.stored()
    (machine,) = laptop.instances()
    assert f"{machine['InstanceId']} t3.medium on-demand in us-east-1a: launched" in done.stdout
    assert "May I close my laptop? Yes" in done.stdout
    assert f"runner-status {machine['InstanceId']}" in done.stdout


def test_a_dry_run_launches_nothing(laptop: Laptop) -> None:
    """Who only wants to see the price would pay it."""
    done = laptop.launch("--dry-run", "--json")
    assert done.returncode == 0
    plan = json.loads(done.stdout)
    assert [each["zone"] for each in plan["candidates"]][:2] == ["us-east-1a", "us-east-1b"]
    assert (laptop.instances(), laptop.stored()) == ([], [])
