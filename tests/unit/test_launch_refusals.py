"""Which candidates a refusal concerns, and what the user is told of it."""

from __future__ import annotations

import pytest

from runner.aws.errors import AwsError, ErrorKind
from runner.targets.ec2.launch.launch_request import LaunchRequest
from runner.targets.ec2.launch.plan import (
    ON_DEMAND,
    SPOT,
    Image,
    InstanceCandidate,
    Subnet,
    TypeFacts,
)
from runner.targets.ec2.launch.refusals import SCOPES, left_after, summary

IMAGE = Image("ami-1", "al2023", "x86_64", "/dev/xvda", 8, "--ami")
SUBNETS = (Subnet("subnet-1", "a", "v"), Subnet("subnet-2", "a", "v"), Subnet("subnet-3", "b", "v"))
VCPUS = {"g5.2xlarge": 8, "g6.2xlarge": 8, "g5.xlarge": 4, "t3.medium": 2}
TYPES = {name: TypeFacts(name, "x86_64", vcpus=count) for name, count in VCPUS.items()}
ALL = tuple(
    InstanceCandidate(name, market, subnet, IMAGE, None)
    for market in (SPOT, ON_DEMAND)
    for name in VCPUS
    for subnet in SUBNETS
)
FIRST = ALL[0]
WISH = LaunchRequest(("g5.2xlarge",), 3600.0, spot=True, fallback=True)


def error(code: str, kind: ErrorKind) -> AwsError:
    return AwsError(kind, code, f"{code}: made up")


def left(code: str, kind: ErrorKind) -> set[tuple[str, str, str]]:
    """What may still be tried after the refusal of g5.2xlarge spot in subnet-1."""
    found = left_after(error(code, kind), FIRST, ALL, TYPES)
    assert FIRST not in found
    return {(each.type, each.market, each.subnet.subnet_id) for each in found}


EVERY = {(each.type, each.market, each.subnet.subnet_id) for each in ALL}
MINE = (FIRST.type, FIRST.market, FIRST.subnet.subnet_id)


def test_capacity_concerns_one_candidate() -> None:
    """The next zone's free machine would not be had."""
    assert left("InsufficientInstanceCapacity", ErrorKind.CAPACITY) == EVERY - {MINE}
    assert left("Unsupported", ErrorKind.CAPACITY) == EVERY - {MINE}


def test_what_a_subnet_or_a_zone_lacks_concerns_all_that_is_there() -> None:
    """Each type would be asked for where no address is left."""
    code = "InsufficientFreeAddressesInSubnet"
    assert left(code, ErrorKind.CAPACITY) == {e for e in EVERY if e[2] != "subnet-1"}
    code = "InsufficientVolumeCapacity"
    assert left(code, ErrorKind.CAPACITY) == {e for e in EVERY if e[2] == "subnet-3"}


@pytest.mark.parametrize(
    "code", ["MaxSpotInstanceCountExceeded", "VcpuLimitExceeded", "InstanceLimitExceeded"]
)
def test_a_quota_concerns_those_that_share_it(code: str) -> None:
    """Another market, another family, or a smaller type would have been launched."""
    shared = {e for e in EVERY if e[1] == SPOT and e[0] in ("g5.2xlarge", "g6.2xlarge")}
    assert left(code, ErrorKind.QUOTA) == EVERY - shared


def test_a_type_of_unknown_size_or_quota_stands_for_itself() -> None:
    """What the tables don't know would stop everything, or be asked for over and over."""
    strange = [
        InstanceCandidate(name, SPOT, SUBNETS[0], IMAGE, None) for name in ("mac1.m", "mac2.m")
    ]
    found = left_after(error("VcpuLimitExceeded", ErrorKind.QUOTA), strange[0], strange, {})
    assert [each.type for each in found] == ["mac2.m"]
    small = left_after(error("VcpuLimitExceeded", ErrorKind.QUOTA), FIRST, ALL, {})
    assert not any(each.market == SPOT and each.type.startswith("g") for each in small)


def test_a_policy_may_allow_another_type_or_market() -> None:
    """An account that forbids one of the types could launch none."""
    same = {e for e in EVERY if e[:2] == MINE[:2]}
    assert left("UnauthorizedOperation", ErrorKind.DENIED) == EVERY - same
    code = "AuthFailure.ServiceLinkedRoleCreationNotPermitted"
    assert left(code, ErrorKind.DENIED) == {e for e in EVERY if e[1] == ON_DEMAND}


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("VolumeLimitExceeded", ErrorKind.QUOTA),
        ("NetworkInterfaceLimitExceeded", ErrorKind.QUOTA),
        ("ExpiredToken", ErrorKind.EXPIRED),
        ("InvalidParameterValue", ErrorKind.INVALID),
        ("AuthFailure", ErrorKind.DENIED),
    ],
)
def test_what_is_about_the_region_or_the_request_concerns_all(code: str, kind: ErrorKind) -> None:
    """Twenty candidates would be asked for one after another, for the same answer."""
    assert left(code, kind) == set()


def test_the_codes_of_the_table_are_refusals() -> None:
    """A code that AWS's answers are never read as would leave its line without effect."""
    from botocore.exceptions import ClientError

    from runner.aws.errors import translate

    for code in SCOPES:
        told = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": 400}}
        found = translate(ClientError(told, "RunInstances"))  # type: ignore[arg-type]
        assert found is not None and found.kind in (
            ErrorKind.CAPACITY,
            ErrorKind.QUOTA,
            ErrorKind.DENIED,
        ), code


def test_a_quota_says_what_to_ask_for() -> None:
    """The user would search for a name that the error doesn't tell."""
    on_demand = next(each for each in ALL if each.market == ON_DEMAND)
    told = summary(WISH, [(on_demand, error("VcpuLimitExceeded", ErrorKind.QUOTA))])
    assert "quota: VcpuLimitExceeded: made up" in told
    assert "'Running On-Demand G and VT instances' (L-DB2E81BA)" in told
    told = summary(WISH, [(FIRST, error("VolumeLimitExceeded", ErrorKind.QUOTA))])
    assert "gp3" in told and "L-7A658B76" in told and "G and VT" not in told


def test_each_refusal_and_each_way_out_is_told_once() -> None:
    """Only the last refusal would be told, or the same advice five times."""
    spot = error("MaxSpotInstanceCountExceeded", ErrorKind.QUOTA)
    full = error("InsufficientInstanceCapacity", ErrorKind.CAPACITY)
    told = summary(WISH, [(FIRST, spot), (ALL[-1], full), (ALL[-2], full)])
    assert told.startswith("EC2 has none of what was asked for; nothing was launched\n")
    assert told.count("made up") == 3
    assert told.count("Service Quotas") == 1 and told.count("try more types") == 1
    denied = error("UnauthorizedOperation", ErrorKind.DENIED)
    told = summary(WISH, [(FIRST, denied), (ALL[-1], denied)])
    assert told.startswith("EC2 refuses the launch: UnauthorizedOperation")
    assert told.count("runner setup") == 1
