"""What EC2 can answer to RunInstances, and what the user sees of it: own proxy before moto."""

from __future__ import annotations

from functools import partial

import pytest
from account import Laptop
from ec2_faults import CAPACITY, QUOTA, LoseAnswer, LoseRequest, Pass, Refuse, RudeEc2, SeeNothing

from runner.cli.launching import launch as launching
from runner.targets.ec2.launch.launcher import Launcher

pytestmark = pytest.mark.share


@pytest.fixture
def laptop(laptop: Laptop, monkeypatch: pytest.MonkeyPatch) -> Laptop:
    """Nothing is waited for: what is asked again is asked at once."""
    monkeypatch.setattr(launching, "Launcher", partial(Launcher, pause=lambda _: None))
    return laptop


def placed(ec2: RudeEc2, laptop: Laptop) -> list[tuple[str, str, str]]:
    """Type, zone and market of each RunInstances, in order."""
    subnets = laptop.account.client("ec2").describe_subnets()["Subnets"]
    zones = {each["SubnetId"]: each["AvailabilityZone"][-1] for each in subnets}
    return [
        (
            asked["InstanceType"],
            zones[asked["NetworkInterface.1.SubnetId"]],
            asked.get("InstanceMarketOptions.MarketType", "on-demand"),
        )
        for asked in ec2.launches
    ]


def test_no_capacity_goes_on_in_order_with_ec2s_words(ec2: RudeEc2, laptop: Laptop) -> None:
    """A full zone would be the end of a launch that the next one could have had."""
    for code in CAPACITY:
        ec2.order("RunInstances", Refuse(code, f"No {code} here.", 500))
    done = laptop.launch("--instance-type", "t3.medium,t3.large")
    assert done.returncode == 0
    for code, zone in zip(CAPACITY, "abcdf", strict=False):
        told = f"t3.medium on-demand in us-east-1{zone}: {code}: No {code} here"
        assert told in done.stderr
    assert placed(ec2, laptop)[4:] == [
        ("t3.medium", "f", "on-demand"),
        ("t3.large", "a", "on-demand"),
        ("t3.large", "b", "on-demand"),
    ]
    assert len(laptop.instances()) == 1


def test_zones_then_types_then_the_market(ec2: RudeEc2, laptop: Laptop) -> None:
    """A dearer machine would be had where a cheaper one was free in the next zone."""
    ec2.order("RunInstances", Refuse("InsufficientInstanceCapacity", "None."), times=10)
    done = laptop.launch("--instance-type", "t3.medium,t3.large", "--spot", "--fallback-on-demand")
    assert done.returncode == 0
    zones = "abcdf"
    spots = [(name, z, "spot") for name in ("t3.medium", "t3.large") for z in zones]
    assert placed(ec2, laptop) == [*spots, ("t3.medium", "a", "on-demand")]
    tokens = {asked["ClientToken"] for asked in ec2.launches}
    assert len(tokens) == 11
    assert {len(token) <= 64 for token in tokens} == {True}


def test_nothing_anywhere_says_each_refusal_and_what_to_try(ec2: RudeEc2, laptop: Laptop) -> None:
    """The user would learn that it failed, but not what EC2 said."""
    ec2.order("RunInstances", Refuse("InsufficientInstanceCapacity", "None."), times=5)
    done = laptop.launch("--spot")
    assert done.returncode == 1
    assert "EC2 has none of what was asked for; nothing was launched" in done.stderr
    assert "t3.medium spot in us-east-1f: InsufficientInstanceCapacity: None" in done.stderr
    assert "--fallback-on-demand" in done.stderr
    assert laptop.instances() == []
    assert laptop.launch().returncode == 0  # at once: it is known that there is none
    assert len(laptop.instances()) == 1


@pytest.mark.parametrize("code", QUOTA)
def test_a_quota_is_no_reason_to_try_the_next_zone(code: str, ec2: RudeEc2, laptop: Laptop) -> None:
    """Five zones would say the same, and nobody what to ask for."""
    ec2.order("RunInstances", Refuse(code, "You have requested more than your limit.", 400))
    done = laptop.launch("--instance-type", "t3.medium", "--spot")
    assert done.returncode == 1
    assert f"quota: {code}: You have requested more than your limit" in done.stderr
    assert "'All Standard (A, C, D, H, I, M, R, T, Z) Spot Instance Requests'" in done.stderr
    assert len(ec2.launches) == 1
    assert laptop.instances() == []


def test_a_quota_of_spot_leaves_on_demand(ec2: RudeEc2, laptop: Laptop) -> None:
    """`--fallback-on-demand` would do nothing for an account whose spot quota is used up."""
    ec2.order("RunInstances", Refuse("MaxSpotInstanceCountExceeded", "Too many."))
    done = laptop.launch("--spot", "--fallback-on-demand")
    assert done.returncode == 0
    assert placed(ec2, laptop) == [("t3.medium", "a", "spot"), ("t3.medium", "a", "on-demand")]
    assert "t3.medium spot in us-east-1a: quota: MaxSpotInstanceCountExceeded" in done.stderr


def test_a_quota_of_a_family_leaves_the_others(ec2: RudeEc2, laptop: Laptop) -> None:
    """An account without GPUs would not get the other type that was named."""
    ec2.order("RunInstances", Refuse("VcpuLimitExceeded", "Your limit is 0."))
    name = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64"
    ami = laptop.account.client("ssm").get_parameter(Name=name)["Parameter"]["Value"]
    types = "g5.2xlarge,g5.4xlarge,t3.medium"
    assert (
        laptop.launch("--instance-type", types, "--ami", ami, "--disk-size", "100").returncode == 0
    )
    assert [name for name, *_ in placed(ec2, laptop)] == ["g5.2xlarge", "t3.medium"]


def test_a_subnet_without_addresses_leaves_the_next(ec2: RudeEc2, laptop: Laptop) -> None:
    """A full subnet would be the end of a launch that has four others."""
    ec2.order("RunInstances", Refuse("InsufficientFreeAddressesInSubnet", "None left."))
    assert laptop.launch("--instance-type", "t3.medium,t3.large").returncode == 0
    assert placed(ec2, laptop)[-1] == ("t3.medium", "b", "on-demand")


def test_a_type_that_is_denied_leaves_the_next(ec2: RudeEc2, laptop: Laptop) -> None:
    """A policy that forbids one type would forbid all that were named."""
    ec2.order("RunInstances(dry)", Refuse("UnauthorizedOperation", "Not this one.", 403))
    done = laptop.launch("--instance-type", "t3.large,t3.medium")
    assert done.returncode == 0
    assert "not tried: t3.large on-demand in us-east-1a: UnauthorizedOperation" in done.stderr
    assert placed(ec2, laptop) == [("t3.medium", "a", "on-demand")]


def test_a_quota_of_the_region_ends_it(ec2: RudeEc2, laptop: Laptop) -> None:
    """The advice would be to ask for more instances, when it is disks that are too many."""
    ec2.order("RunInstances", Refuse("VolumeLimitExceeded", "Too much storage."))
    done = laptop.launch("--instance-type", "t3.medium,t3.large")
    assert done.returncode == 1
    assert len(ec2.launches) == 1
    assert "L-7A658B76" in done.stderr and "Standard" not in done.stderr


def test_a_lost_answer_is_looked_up_and_not_asked_again(ec2: RudeEc2, laptop: Laptop) -> None:
    """Two machines would run, and one of them for nobody."""
    ec2.order("RunInstances", LoseAnswer())
    done = laptop.launch()
    assert done.returncode == 0
    (machine,) = laptop.instances()
    assert "EC2's answer was lost" in done.stderr
    assert f"it did: {machine['InstanceId']}" in done.stderr
    assert f"{machine['InstanceId']} t3.medium on-demand in us-east-1a: launched" in done.stdout
    assert len(ec2.launches) == 1


def test_a_lost_answer_that_is_not_to_be_seen_is_asked_for_under_its_token(
    ec2: RudeEc2, laptop: Laptop
) -> None:
    """EC2 shows a machine only some time after: looking alone would launch a second one."""
    ec2.order("RunInstances", LoseAnswer())
    ec2.order("DescribeInstances", Pass(), SeeNothing(), SeeNothing(), SeeNothing())
    done = laptop.launch()
    assert done.returncode == 0
    assert "asking again, under the same token" in done.stderr
    assert len(laptop.instances()) == 1
    assert len({asked["ClientToken"] for asked in ec2.launches}) == 1


@pytest.mark.parametrize("fault", [LoseRequest(), Refuse("InternalError", "Oops.", 500)])
def test_what_never_came_to_anything_is_asked_again(
    fault: LoseRequest | Refuse, ec2: RudeEc2, laptop: Laptop
) -> None:
    """One broken connection would cost the user the launch."""
    ec2.order("RunInstances", fault)
    assert laptop.launch().returncode == 0
    assert len(laptop.instances()) == 1
    assert len({asked["ClientToken"] for asked in ec2.launches}) == 1
    assert [zone for _, zone, _ in placed(ec2, laptop)] == ["a", "a"]


def test_as_long_as_it_is_unclear_nothing_else_is_launched(ec2: RudeEc2, laptop: Laptop) -> None:
    """While EC2 is ill each zone would get a machine."""
    ec2.order("RunInstances", Refuse("Unavailable", "Down.", 503), times=3)
    done = laptop.launch()
    assert done.returncode == 1
    assert "EC2 doesn't say whether it launched a machine (Unavailable: Down)" in done.stderr
    assert "The same command again finds it, or goes on" in done.stderr
    assert {zone for _, zone, _ in placed(ec2, laptop)} == {"a"}
    other = laptop.launch("--disk-size", "50")
    assert other.returncode == 2
    assert "and what came of it isn't known yet" in other.stderr
    again = laptop.launch()
    assert again.returncode == 0
    assert "going on with launch" in again.stderr
    assert len(laptop.instances()) == 1
    assert len({asked["ClientToken"] for asked in ec2.launches}) == 1


REFUSALS = (
    "ExpiredToken",
    "RequestExpired",
    "UnauthorizedOperation",
    "VcpuLimitExceeded",
    "InsufficientInstanceCapacity",
    "InvalidParameterValue",
)


@pytest.mark.parametrize("code", REFUSALS)
def test_a_refusal_after_a_lost_answer_is_not_believed(
    code: str, ec2: RudeEc2, laptop: Laptop
) -> None:
    """ "EC2 refuses the launch" would be said while a machine runs, and the next one launched."""
    ec2.order("RunInstances", LoseAnswer(), Refuse(code, "made up"))
    ec2.order("DescribeInstances", Pass(), *[SeeNothing()] * 5)
    done = laptop.launch()
    assert done.returncode == 0
    assert "may have launched before" in done.stderr
    (machine,) = laptop.instances()
    assert machine["InstanceId"] in done.stdout
    assert laptop.read(f"runner/index/{laptop.queue_id}.json")["instance_id"]


@pytest.mark.parametrize("code", REFUSALS)
def test_doubt_that_cannot_be_ended_stays(code: str, ec2: RudeEc2, laptop: Laptop) -> None:
    """The record would be closed as refused, and the same command launch a second machine."""
    ec2.order("RunInstances", LoseAnswer(), Refuse(code, "made up"))
    keys = Refuse("ExpiredToken", "made up")
    ec2.order("DescribeInstances", Pass(), *[SeeNothing()] * 4, keys)
    done = laptop.launch()
    assert done.returncode == 1
    assert "EC2 doesn't say whether it launched a machine" in done.stderr
    assert "EC2 can't be asked: ExpiredToken" in done.stderr
    assert "refuses the launch" not in done.stderr and "nothing was launched" not in done.stderr
    assert laptop.record()["open"] and laptop.record()["asked"]
    assert "outcome" not in laptop.read(f"runner/index/{laptop.queue_id}.json")
    # Lagging at first, and refused again: the request is in doubt as before.
    ec2.order("DescribeInstances", SeeNothing(), SeeNothing())
    ec2.order("RunInstances", Refuse(code, "made up"))
    assert laptop.launch().returncode == 0
    assert len(laptop.instances()) == 1
    assert len({asked["ClientToken"] for asked in ec2.launches}) == 1


def test_a_refusal_is_believed_once_a_machine_would_be_seen(ec2: RudeEc2, laptop: Laptop) -> None:
    """One lost request would keep a queue from ever being launched elsewhere."""
    ec2.order("RunInstances", LoseRequest(), Refuse("InsufficientInstanceCapacity", "None."))
    done = laptop.launch()
    assert done.returncode == 0
    assert [zone for _, zone, _ in placed(ec2, laptop)] == ["a", "a", "b"]
    assert len(laptop.instances()) == 1


def test_a_cut_launch_that_is_refused_later_begins_anew(ec2: RudeEc2, laptop: Laptop) -> None:
    """A refusal of what was asked for before would be the last word on what is asked for now."""
    ec2.order("RunInstances", *[LoseRequest()] * 3)
    assert laptop.launch().returncode == 1
    ec2.order("RunInstances", Refuse("UnauthorizedOperation", "not then"))
    done = laptop.launch()
    assert done.returncode == 0
    assert len(laptop.instances()) == 1
    assert not laptop.record()["open"]


def test_throttling_is_waited_out(ec2: RudeEc2, laptop: Laptop) -> None:
    """A busy account could launch nothing."""
    ec2.order("RunInstances", Refuse("RequestLimitExceeded", "Too often.", 503), times=2)
    done = laptop.launch()
    assert done.returncode == 0
    assert "EC2 is asked too often (RequestLimitExceeded): again in" in done.stderr
    assert len(laptop.instances()) == 1


def test_a_denied_launch_says_which_policy_is_missing(ec2: RudeEc2, laptop: Laptop) -> None:
    """A kilobyte of ciphertext would hide what is wrong."""
    secret = "You are not authorized. Encoded authorization failure message: abcdef"
    ec2.order("RunInstances", Refuse("UnauthorizedOperation", secret, 403))
    done = laptop.launch()
    assert done.returncode == 1
    assert "EC2 refuses the launch: UnauthorizedOperation: You are not authorized" in done.stderr
    assert "abcdef" not in done.stderr
    assert "runner setup" in done.stderr
    assert len(ec2.launches) == 1


def test_a_token_that_another_request_has_used_is_looked_up(ec2: RudeEc2, laptop: Laptop) -> None:
    """A machine that is there would be launched again under a new token."""
    ec2.order("RunInstances", Refuse("IdempotentParameterMismatch", "Other parameters.", 400))
    assert laptop.launch().returncode == 0
    first, second = (asked["ClientToken"] for asked in ec2.launches)
    assert first.removesuffix("-1") == second.removesuffix("-2")
    assert len(laptop.instances()) == 1


def test_what_ec2_would_refuse_is_told_before_anything_is_shipped(
    ec2: RudeEc2, laptop: Laptop
) -> None:
    """Twenty megabytes would go up the line for a launch that is denied."""
    secret = "You are not authorized. Encoded authorization failure message: abcdef"
    ec2.order("RunInstances(dry)", Refuse("UnauthorizedOperation", secret, 403))
    done = laptop.launch()
    assert done.returncode == 1
    assert "EC2 refuses the launch: UnauthorizedOperation: You are not authorized" in done.stderr
    assert "abcdef" not in done.stderr
    assert laptop.stored() == []


def test_a_spot_request_that_stays_open_is_cancelled(ec2: RudeEc2, laptop: Laptop) -> None:
    """EC2 would launch a machine for it, days later."""
    ec2.open_requests = ["sir-12345678"]
    ec2.order("RunInstances", Refuse("InsufficientInstanceCapacity", "None.", 500))
    assert laptop.launch("--spot").returncode == 0
    assert ec2.calls.count("CancelSpotInstanceRequests") == 1
    assert ec2.open_requests == []


def test_a_spot_request_of_a_cut_launch_is_cancelled(ec2: RudeEc2, laptop: Laptop) -> None:
    """EC2 would launch a machine for it, beside that of the next launch."""
    ec2.order("RunInstances", *[LoseRequest()] * 3)
    assert laptop.launch("--spot").returncode == 1
    ec2.open_requests = ["sir-12345678"]
    ec2.order("RunInstances", Refuse("InsufficientInstanceCapacity", "None."))
    assert laptop.launch("--spot").returncode == 0
    assert ec2.open_requests == []
    assert len(laptop.instances()) == 1


def test_a_machine_that_ended_before_it_was_seen_is_not_told_as_launched(
    ec2: RudeEc2, laptop: Laptop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk's key that EC2 may not use ends it at once: the user would wait for its queue."""

    def end_it(_: float) -> None:
        for each in laptop.instances():
            client = laptop.account.client("ec2")
            client.terminate_instances(InstanceIds=[each["InstanceId"]])

    monkeypatch.setattr(launching, "Launcher", partial(Launcher, pause=end_it))
    ec2.order("RunInstances", LoseAnswer())
    ec2.order("DescribeInstances", Pass(), SeeNothing())
    done = laptop.launch()
    (machine,) = laptop.instances()
    assert done.returncode == 1
    assert f"EC2 launched {machine['InstanceId']}, and it has ended already" in done.stderr
    assert not laptop.record()["open"]


def test_a_cut_off_launch_is_told_to_the_next_command(ec2: RudeEc2, laptop: Laptop) -> None:
    """Its machine would be seen on the bill first."""
    ec2.order("RunInstances", Refuse("Unavailable", "Down.", 503), times=3)
    assert laptop.launch().returncode == 1
    launch = laptop.record()["launch"]
    laptop.queue_id = f"{laptop.queue_id}-b"
    laptop.write()
    assert f"launch {launch} of" in laptop.launch("--dry-run").stderr
