"""What would be launched, in which order, and how EC2 is asked for it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from runner.targets.ec2 import names
from runner.targets.ec2.launch.launch_request import LaunchRequest
from runner.targets.ec2.launch.plan import (
    Facts,
    Image,
    Subnet,
    TypeFacts,
    candidates,
    disagreements,
    disk_of,
    drops,
)
from runner.targets.ec2.launch.run_instances import request, tags, token

ZONES = ("us-east-1a", "us-east-1b")
X86 = Image("ami-1", "al2023", "x86_64", "/dev/xvda", 8, "p")
ARM = Image("ami-2", "al2023-arm", "arm64", "/dev/xvda", 8, "p")
EXPIRES = 1_800_000_000.0


def facts(**changes: Any) -> Facts:
    made: dict[str, Any] = {
        "region": "us-east-1",
        "types": {"m.a": TypeFacts("m.a", "x86_64"), "m.b": TypeFacts("m.b", "arm64")},
        "zones": {"m.a": frozenset(ZONES), "m.b": frozenset(ZONES)},
        "subnets": [Subnet(f"subnet-{zone[-1]}", zone, "vpc-1") for zone in ZONES],
        "images": {"m.a": X86, "m.b": ARM},
        "profile": "runner-instance",
        "prices": {("m.a", "on-demand", ""): 0.5, ("m.a", "spot", "us-east-1b"): 0.2},
    }
    return Facts(**{**made, **changes})


def wanted(**changes: Any) -> LaunchRequest:
    return LaunchRequest(**{"types": ("m.a", "m.b"), "max_lifetime": 3600.0, **changes})


def order(wanted: LaunchRequest, facts: Facts) -> list[str]:
    return [f"{c.type} {c.market} {c.subnet.zone[-1]}" for c in candidates(wanted, facts)]


def asked(wanted: LaunchRequest, market: str = "on-demand", **more: Any) -> dict[str, Any]:
    """The request of the first candidate in this market."""
    candidate = next(c for c in candidates(wanted, facts()) if c.market == market)
    given: dict[str, Any] = {
        "profile": "runner-instance",
        "tags": tags(wanted, "l-1", "q", "s3://b/p", EXPIRES, candidate.price),
        "token": token("l-1", 1),
        "expires": EXPIRES,
        "user_data": b"#!",
    }
    return request(wanted, candidate, **{**given, **more})


def test_zone_before_type_before_market() -> None:
    """A dearer machine would be taken where the first choice was free next door."""
    assert order(wanted(spot=True, fallback=True), facts()) == [
        *("m.a spot a", "m.a spot b", "m.b spot a", "m.b spot b"),
        *("m.a on-demand a", "m.a on-demand b", "m.b on-demand a", "m.b on-demand b"),
    ]
    assert order(wanted(), facts()) == order(wanted(spot=True, fallback=True), facts())[4:]


def test_what_a_zone_has_not_got_is_dropped_with_words() -> None:
    """EC2 would be asked in vain, or the user wonder about a zone that was left out."""
    some = facts(zones={"m.a": frozenset({"us-east-1b"}), "m.b": frozenset(ZONES)})
    assert order(wanted(), some)[0] == "m.a on-demand b"
    assert drops(wanted(), some) == ["m.a is not offered in us-east-1a"]
    none = facts(zones={})
    assert disagreements(wanted(types=("m.a",)), none) == [
        "nothing is left to launch: m.a is not offered in us-east-1a, us-east-1b"
    ]


def test_an_image_of_another_architecture_is_an_error() -> None:
    """The machine would never boot, and cost until its end."""
    told = disagreements(wanted(), facts(images={"m.a": ARM, "m.b": ARM}))
    assert told == ["--ami: ami-2 (al2023-arm) is for arm64, but m.a is x86_64"]


def test_a_disk_smaller_than_its_image_is_an_error() -> None:
    """A size would be changed in silence, or EC2 refuse what was found to be right."""
    both = facts(images={"m.a": X86, "m.b": replace(ARM, size=12)})
    assert disagreements(wanted(disk=12), both) == disagreements(wanted(), both) == []
    assert disagreements(wanted(disk=7), both) == [
        "--disk-size: ami-1 (al2023) needs at least 8 GiB, and 7 were given",
        "--disk-size: ami-2 (al2023-arm) needs at least 12 GiB, and 7 were given",
    ]


def test_subnets_of_two_vpcs_are_an_error() -> None:
    """A security group is in one of them: each launch in the other would be refused."""
    two = [Subnet("subnet-1", ZONES[0], "vpc-1"), Subnet("subnet-2", ZONES[1], "vpc-2")]
    assert disagreements(wanted(), facts(subnets=two))[0].startswith(
        "--subnet: they are in several"
    )


def test_prices_are_of_the_zone_where_they_differ() -> None:
    """The tag, and `runner ls`, would tell another zone's price."""
    prices = [
        c.price for c in candidates(wanted(types=("m.a",), spot=True, fallback=True), facts())
    ]
    assert prices == [None, 0.2, 0.5, 0.5]


def test_everything_bears_the_tags_at_create() -> None:
    """What can't be found by its tags outlives its machine, unseen."""
    made = asked(wanted(tags={"team": "blue", "Name": "mine"}))
    kinds = [each["ResourceType"] for each in made["TagSpecifications"]]
    assert kinds == ["instance", "volume", "network-interface"]
    told = {tag["Key"]: tag["Value"] for tag in made["TagSpecifications"][1]["Tags"]}
    assert told == {
        "Name": "mine",
        "team": "blue",
        names.QUEUE: "q",
        names.LAUNCH: "l-1",
        names.STORE: "s3://b/p",
        names.EXPIRES: "2027-01-15T08:00:00Z",
        names.TERMINATES: "terminate",
        names.PRICE: "0.5",
    }
    spot = asked(wanted(spot=True), "spot")
    assert spot["TagSpecifications"][-1]["ResourceType"] == "spot-instances-request"
    assert names.PRICE not in str(spot)  # of that zone nobody knows one


def test_a_spot_machine_is_stopped_and_its_request_ends() -> None:
    """EC2 refuses anything else for a persistent request; without an end it launches for ever."""
    assert asked(wanted(spot=True), "spot")["InstanceMarketOptions"] == {
        "MarketType": "spot",
        "SpotOptions": {
            "SpotInstanceType": "persistent",
            "InstanceInterruptionBehavior": "stop",
            "ValidUntil": "2027-01-15T08:00:00Z",
        },
    }
    assert "InstanceMarketOptions" not in asked(wanted())


@pytest.mark.parametrize(
    ("on_complete", "behaviour"),
    [("terminate", "terminate"), ("none", "terminate"), ("stop", "stop")],
)
def test_a_machine_that_powers_itself_off_is_gone(on_complete: str, behaviour: str) -> None:
    """A stopped machine's disk goes on costing; one that is to be stopped would be lost."""
    made = asked(wanted(on_complete=on_complete))
    assert made["InstanceInitiatedShutdownBehavior"] == behaviour


def test_the_root_is_encrypted_and_as_large_as_it_must_be() -> None:
    """An image that is larger than the default would be refused; a plain one is readable."""
    large = replace(X86, size=90)
    assert disk_of(wanted(), large) == 90 and disk_of(wanted(disk=100), large) == 100
    ebs = asked(wanted())["BlockDeviceMappings"][0]["Ebs"]
    assert ebs == {
        "VolumeSize": 30,
        "VolumeType": "gp3",
        "Encrypted": True,
        "DeleteOnTermination": True,
    }
    assert asked(wanted(disk=100))["BlockDeviceMappings"][0]["Ebs"]["VolumeSize"] == 100


def test_metadata_needs_a_token_and_containers_reach_it() -> None:
    """Any job that fetches a URL for others would hand out the role's keys."""
    options = asked(wanted())["MetadataOptions"]
    assert (options["HttpTokens"], options["HttpPutResponseHopLimit"]) == ("required", 2)


def test_the_network_is_as_it_was_asked_for() -> None:
    """A machine that was to have no public address would have one."""
    plain = asked(wanted())["NetworkInterfaces"][0]
    assert plain == {"DeviceIndex": 0, "SubnetId": "subnet-a"}
    closed = asked(wanted(public_ip=False, groups=("sg-1",)))["NetworkInterfaces"][0]
    assert (closed["AssociatePublicIpAddress"], closed["Groups"]) == (False, ["sg-1"])


def test_a_profile_is_named_or_an_arn() -> None:
    """EC2 takes either, each in a field of its own."""
    arn = "arn:aws:iam::123456789012:instance-profile/x"
    assert asked(wanted(), profile=arn)["IamInstanceProfile"] == {"Arn": arn}
    assert asked(wanted())["IamInstanceProfile"] == {"Name": "runner-instance"}


def test_tokens_are_short_and_the_same_for_the_same_request() -> None:
    """EC2 refuses a longer one; another one launches another machine."""
    launch = "20261125-181500-0123abcd"
    assert token(launch, 1) == token(launch, 1) == f"{launch}-1"
    assert len(token(launch, 10_000)) <= 64
    assert len({token(launch, n) for n in range(100)}) == 100
