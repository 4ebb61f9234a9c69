"""What a refusal of EC2 is about: which of the other candidates it concerns, and what helps. Pure.

A refusal that is about one zone, family or market is no reason to leave the others untried; one
that is about the request as a whole is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum, auto

from runner.aws.errors import AwsError, ErrorKind
from runner.targets.ec2.account.quotas import quota_of
from runner.targets.ec2.launch.launch_request import LaunchRequest
from runner.targets.ec2.launch.plan import SPOT, InstanceCandidate, TypeFacts


class Scope(Enum):
    """Which candidates a refusal concerns: those that share what it names with the refused one."""

    CANDIDATE = auto()
    SUBNET = auto()
    ZONE = auto()
    KIND = auto()
    """Type and market: a policy may allow another of them."""
    QUOTA = auto()
    """The vCPUs of a family in a market. A smaller type of the family may still fit."""
    MARKET = auto()
    ALL = auto()


SCOPES: Mapping[str, Scope] = {
    "InsufficientFreeAddressesInSubnet": Scope.SUBNET,
    "InsufficientVolumeCapacity": Scope.ZONE,
    "UnauthorizedOperation": Scope.KIND,
    "AuthFailure.ServiceLinkedRoleCreationNotPermitted": Scope.MARKET,
    "VcpuLimitExceeded": Scope.QUOTA,
    "InstanceLimitExceeded": Scope.QUOTA,
    "MaxSpotInstanceCountExceeded": Scope.QUOTA,
    "SpotInstanceCountLimitExceeded": Scope.QUOTA,
}
"""EC2 API reference, "Error codes for the Amazon EC2 API"; EC2 User Guide, "Amazon EC2 instance
type quotas", "Spot Instance quotas", "Service-linked role for EC2 Spot Instance requests". The
quotas of volumes and network interfaces are the region's, so all candidates share them."""

STORAGE_CODES = ("VolumeLimitExceeded", "MaxIOPSLimitExceeded")

STORAGE_QUOTA = ("Storage for General Purpose SSD (gp3) volumes, in TiB", "L-7A658B76")
"""Of the region (EBS User Guide, "Quotas for Amazon EBS")."""


def scope_of(error: AwsError) -> Scope:
    """What a refusal is about; of a code that the table doesn't know, by its kind."""
    default = Scope.CANDIDATE if error.kind is ErrorKind.CAPACITY else Scope.ALL
    return SCOPES.get(error.code, default)


def left_after(
    error: AwsError,
    refused: InstanceCandidate,
    candidates: Sequence[InstanceCandidate],
    types: Mapping[str, TypeFacts],
) -> tuple[InstanceCandidate, ...]:
    """The candidates, in order, that the refusal of one of them doesn't concern."""
    scope = scope_of(error)
    return tuple(
        other
        for other in candidates
        if other != refused and not _concerns(scope, refused, other, types)
    )


def _concerns(
    scope: Scope,
    refused: InstanceCandidate,
    other: InstanceCandidate,
    types: Mapping[str, TypeFacts],
) -> bool:
    match scope:
        case Scope.CANDIDATE:
            return False
        case Scope.SUBNET:
            return other.subnet == refused.subnet
        case Scope.ZONE:
            return other.subnet.zone == refused.subnet.zone
        case Scope.KIND:
            return (other.type, other.market) == (refused.type, refused.market)
        case Scope.QUOTA:
            return _same_quota(refused, other) and not _smaller(other, refused, types)
        case Scope.MARKET:
            return other.market == refused.market
        case Scope.ALL:
            return True


def _same_quota(one: InstanceCandidate, other: InstanceCandidate) -> bool:
    quota = quota_of(one.type, one.market)
    if quota is None:
        return (one.type, one.market) == (other.type, other.market)
    return quota == quota_of(other.type, other.market)


def _smaller(
    one: InstanceCandidate, other: InstanceCandidate, types: Mapping[str, TypeFacts]
) -> bool:
    known = types.get(one.type), types.get(other.type)
    return known[0] is not None and known[1] is not None and known[0].vcpus < known[1].vcpus


# -- in words --------------------------------------------------------------------------------


def words(error: AwsError) -> str:
    """Without the kilobyte that only sts:DecodeAuthorizationMessage can read."""
    text = str(error)
    at = text.find("Encoded authorization failure message")
    return text[:at].rstrip(" .") if at > 0 else text


def line(candidate: InstanceCandidate, error: AwsError) -> str:
    """One refusal in one line."""
    told = words(error)
    if error.kind is ErrorKind.QUOTA:
        return f"{candidate}: quota: {told}"
    return f"{candidate}: {told}"


def summary(wanted: LaunchRequest, refusals: Sequence[tuple[InstanceCandidate, AwsError]]) -> str:
    """All refusals of a launch that came to nothing, and what can be done about each kind."""
    *_, (_, last) = refusals
    if scope_of(last) is Scope.ALL and last.kind is not ErrorKind.QUOTA:
        refused = [f"EC2 refuses the launch: {words(last)}"]
        before = [line(candidate, error) for candidate, error in refusals[:-1]]
    else:
        refused = [_headline(refusals)]
        before = [line(candidate, error) for candidate, error in refusals]
    advice = [_advice(wanted, candidate, error) for candidate, error in refusals]
    return "\n".join([*refused, *before, *dict.fromkeys(filter(None, advice))])


def _headline(refusals: Sequence[tuple[InstanceCandidate, AwsError]]) -> str:
    if all(error.kind is ErrorKind.DENIED for _, error in refusals):
        return f"EC2 refuses the launch: {words(refusals[-1][1])}"
    return "EC2 has none of what was asked for; nothing was launched"


def _advice(wanted: LaunchRequest, candidate: InstanceCandidate, error: AwsError) -> str:
    """What helps, or ""."""
    if error.kind is ErrorKind.DENIED:
        return "`runner setup` shows the policy that a launcher needs"
    if error.kind is ErrorKind.QUOTA:
        return _quota_advice(candidate, error)
    if error.kind is not ErrorKind.CAPACITY:
        return ""
    ways = ["more types (--instance-type A,B)", "another region"]
    if wanted.spot and not wanted.fallback:
        ways.insert(0, "--fallback-on-demand")
    return f"try {', '.join(ways)}, or the same later"


def _quota_advice(candidate: InstanceCandidate, error: AwsError) -> str:
    if error.code in STORAGE_CODES:
        name, code = STORAGE_QUOTA
        return (
            f"all types of the region share the quota of volumes: ask for more of '{name}' "
            f"({code}) in Service Quotas, Amazon EBS; or delete volumes; or take another region"
        )
    if scope_of(error) is Scope.ALL:
        return "all types of the region share this quota: Service Quotas, Amazon VPC, has it"
    what = quota_of(candidate.type, candidate.market)
    quota = (
        f"'{what[0]}' ({what[1]})"
        if what
        else f"the quota of {candidate.type} ({candidate.market})"
    )
    ways = "another family" if candidate.market != SPOT else "another family, or on demand"
    return (
        f"another zone has the same quota: ask for more of {quota} in Service Quotas, Amazon EC2; "
        f"or wait for machines to end; or take {ways}"
    )
