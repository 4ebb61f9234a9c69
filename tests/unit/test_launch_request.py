"""What flags of `launch` mean, and what is wrong with them."""

from __future__ import annotations

from typing import Any

import pytest

from runner.errors import UsageError
from runner.targets.ec2.launch.launch_request import LaunchRequest, launch_request_of

HOUR = 3600.0


def wanted(global_timeout: float = HOUR, **flags: Any) -> LaunchRequest:
    return launch_request_of({"instance_type": "t3.medium", **flags}, global_timeout)


def faults(**flags: Any) -> list[str]:
    with pytest.raises(UsageError) as caught:
        wanted(**flags)
    return str(caught.value).split("\n")


def test_all_that_is_wrong_is_told_at_once() -> None:
    """The user would find the fifth mistake with the fifth try."""
    told = faults(
        instance_type="big",
        disk_size="0",
        ami="ami-x",
        subnet="subnet-12345678,nix",
        tag=["a", "aws:b=c", "runner:queue=x", "d=1", "d=2"],
        max_lifetime="1d",
        iam_role="a b",
        fallback_on_demand=True,
    )
    starts = [line.split(":")[0] for line in told]
    assert sorted(starts) == sorted(
        [
            "--fallback-on-demand",
            "--max-lifetime",
            "--instance-type",
            "--disk-size",
            "--ami",
            "--subnet",
            "--iam-role",
            "--tag",
            "--tag",
            "--tag",
            "--tag",
        ]
    )
    assert '--max-lifetime: "1d": Go durations have no days; write "24h"' in told


def test_a_launch_needs_a_type() -> None:
    """A default type would be a price that nobody has chosen."""
    assert faults(instance_type=None) == [
        "--instance-type: is required, such as t3.medium or g5.xlarge,g6.xlarge"
    ]


def test_types_and_subnets_keep_their_order_and_come_once() -> None:
    """The order is the order of trying; twice would be asked twice."""
    made = wanted(instance_type="g5.xlarge, g6.xlarge,g5.xlarge", subnet="subnet-2b000000")
    assert made.types == ("g5.xlarge", "g6.xlarge")
    assert made.subnets == ("subnet-2b000000",)


@pytest.mark.parametrize(
    ("global_timeout", "lifetime"),
    [(HOUR, 3 * HOUR), (80 * HOUR, 161 * HOUR), (100 * HOUR, 168 * HOUR), (720 * HOUR, 721 * HOUR)],
)
def test_the_default_lifetime_is_bounded_but_lets_the_queue_end(
    global_timeout: float, lifetime: float
) -> None:
    """A forgotten machine would cost for twice a month, or a long queue be cut."""
    assert wanted(global_timeout).max_lifetime == lifetime
    assert wanted(global_timeout).lifetime_why


def test_a_given_lifetime_stands() -> None:
    """The user's own bound would be changed."""
    assert wanted(100 * HOUR, max_lifetime="2h").max_lifetime == 2 * HOUR


@pytest.mark.parametrize("lifetime", ["1s", "4m59s"])
def test_a_lifetime_that_ends_in_the_boot_is_an_error(lifetime: str) -> None:
    """A machine would be launched and paid for that can run nothing."""
    (told,) = faults(max_lifetime=lifetime)
    assert told.startswith(f'--max-lifetime: "{lifetime}" is over before a job has run')
    assert "at least 5m0s" in told
    assert wanted(100 * HOUR, max_lifetime="5m").max_lifetime == 300


def test_a_spot_machine_cannot_stop_at_the_end() -> None:
    """Its request is cancelled first, and EC2 stops no such machine: it would terminate."""
    assert faults(spot=True, on_complete="stop")[0].startswith("--on-complete stop: a spot machine")


@pytest.mark.parametrize(
    ("flags", "markets"),
    [
        ({}, ("on-demand",)),
        ({"spot": True}, ("spot",)),
        ({"spot": True, "fallback_on_demand": True}, ("spot", "on-demand")),
    ],
)
def test_the_market_changes_only_where_it_is_allowed(
    flags: dict[str, bool], markets: tuple[str, ...]
) -> None:
    """Who asked for spot would pay three times as much."""
    assert wanted(**flags).markets == markets
