"""What would be launched, and in which order it is tried. Pure: facts in, candidates out.

Availability Zones first, then types, then the market: a zone costs nothing to change, another type
is another machine, another market another price.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from runner.targets.ec2.launch.launch_request import DISK, LaunchRequest

SPOT = "spot"
ON_DEMAND = "on-demand"

BUNDLE_ARCH = {"x86_64": "x86_64", "arm64": "aarch64"}
"""What EC2 calls an architecture, and what we do."""


@dataclass(frozen=True, slots=True)
class TypeFacts:
    """An instance type as EC2 describes it. ``arch``: x86_64 or arm64. ``gpu``: who made it."""

    name: str
    arch: str
    gpu: str = ""
    markets: tuple[str, ...] = (ON_DEMAND, SPOT)
    ebs_root: bool = True
    vcpus: int = 0
    memory_mib: int = 0


@dataclass(frozen=True, slots=True)
class Subnet:
    """Where a machine can be placed."""

    subnet_id: str
    zone: str
    vpc: str


@dataclass(frozen=True, slots=True)
class Image:
    """An AMI. ``size``: GiB of its root volume. ``source``: the SSM parameter, or ``--ami``.

    ``windows``: what EC2 says of its platform.
    """

    image_id: str
    name: str
    arch: str
    root_device: str
    size: int
    source: str
    ebs_root: bool = True
    windows: bool = False


@dataclass(frozen=True, slots=True)
class Facts:
    """All that was asked of AWS before a launch.

    ``zones``: where each type is offered. ``images``: by type. ``prices``: US dollars an hour by
    (type, market, zone), on demand with zone "". ``unpriced``: why there is none, by (type,
    market). ``profile``: the ARN or name of the instance profile.
    """

    region: str
    types: Mapping[str, TypeFacts]
    zones: Mapping[str, frozenset[str]]
    subnets: Sequence[Subnet]
    images: Mapping[str, Image]
    profile: str
    prices: Mapping[tuple[str, str, str], float] = field(default_factory=dict)
    unpriced: Mapping[tuple[str, str], str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class InstanceCandidate:
    """One thing to ask EC2 for. ``price``: US dollars an hour, None if nobody knows."""

    type: str
    market: str
    subnet: Subnet
    image: Image
    price: float | None

    def __str__(self) -> str:
        return f"{self.type} {self.market} in {self.subnet.zone}"


def candidates(wanted: LaunchRequest, facts: Facts) -> tuple[InstanceCandidate, ...]:
    """All that may be tried, in order; a type isn't tried in a zone that hasn't got it."""
    return tuple(
        InstanceCandidate(
            name, market, subnet, facts.images[name], price_of(facts, name, market, subnet)
        )
        for market in wanted.markets
        for name in wanted.types
        for subnet in facts.subnets
        if subnet.zone in facts.zones.get(name, ()) and market in facts.types[name].markets
    )


def price_of(facts: Facts, name: str, market: str, subnet: Subnet) -> float | None:
    """US dollars an hour, if known."""
    return facts.prices.get((name, market, subnet.zone if market == SPOT else ""))


def disk_of(wanted: LaunchRequest, image: Image) -> int:
    """GiB of the root volume."""
    return max(DISK, image.size) if wanted.disk is None else wanted.disk


def disagreements(wanted: LaunchRequest, facts: Facts) -> list[str]:
    """What can't go together, a line each."""
    errors = _unfit_images(wanted, facts)
    for name in wanted.types:
        kind, image = facts.types.get(name), facts.images.get(name)
        if kind is None or image is None:
            continue
        if image.arch != kind.arch:
            errors.append(
                f"--ami: {image.image_id} ({image.name}) is for {image.arch}, "
                f"but {name} is {kind.arch}"
            )
        if not (image.ebs_root and kind.ebs_root):
            errors.append(f"{name} with {image.image_id}: its root would not be on EBS")
    if len(vpcs := {subnet.vpc for subnet in facts.subnets}) > 1:
        errors.append(f"--subnet: they are in several VPCs ({', '.join(sorted(vpcs))})")
    if not errors and not candidates(wanted, facts):
        errors.append("nothing is left to launch: " + "; ".join(drops(wanted, facts)))
    return errors


def _unfit_images(wanted: LaunchRequest, facts: Facts) -> list[str]:
    """Images that no type could make a machine of, one line each."""
    errors = []
    for image in dict.fromkeys(facts.images[name] for name in wanted.types if name in facts.images):
        who = f"{image.image_id} ({image.name})"
        if image.windows:
            errors.append(
                f"--ami: {who} is a Windows image, on which nothing would start the queue or end "
                "the machine: give one of a Linux with systemd"
            )
        if wanted.disk is not None and wanted.disk < image.size:
            errors.append(
                f"--disk-size: {who} needs at least {image.size} GiB, and {wanted.disk} were given"
            )
    return errors


def drops(wanted: LaunchRequest, facts: Facts) -> list[str]:
    """What is not tried, and why, in words."""
    told = []
    for name in wanted.types:
        missing = [s.zone for s in facts.subnets if s.zone not in facts.zones.get(name, ())]
        if missing:
            told.append(f"{name} is not offered in {', '.join(dict.fromkeys(missing))}")
        for market in wanted.markets:
            if name in facts.types and market not in facts.types[name].markets:
                told.append(f"{name} is not to be had as {market}")
    return told
