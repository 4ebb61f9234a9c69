"""How many vCPUs the account may run of a type's family, how many it does, and if one more fits.

AWS counts vCPUs, by family and market (EC2 User Guide, "Amazon EC2 instance quotas"); the codes are
Service Quotas' own.
"""

from __future__ import annotations

import re
from typing import Any

from runner.aws.clients import make_client
from runner.aws.ec2 import Ec2
from runner.aws.faults import AwsError, Kind, calling
from runner.targets.ec2.doctor.findings import Finding, fail, ok, warn

_STANDARD = ("L-1216C47A", "L-34B43A08")
_CODES: dict[str, tuple[str, str | None]] = {
    **dict.fromkeys(("a", "c", "d", "h", "i", "im", "is", "m", "r", "t", "z"), _STANDARD),
    **dict.fromkeys(("g", "gr", "vt"), ("L-DB2E81BA", "L-3819A6DF")),
    "p": ("L-417A185B", "L-7212CCBC"),
    "inf": ("L-1945791B", "L-B5D1601B"),
    "trn": ("L-2C3B7624", "L-6B0D517C"),
    "x": ("L-7295265B", "L-E3A00192"),
    "f": ("L-74FC7D96", "L-88CF9481"),
    "dl": ("L-6E869C2A", "L-85EED4F7"),
    "hpc": ("L-F7808C92", None),
    "u": ("L-43DA4232", None),
}
"""On-demand and spot, by the letters that a type begins with."""

_P5_SPOT = "L-C4BD4855"


def codes(instance_type: str) -> tuple[str, str | None] | None:
    """The quotas of a type, on-demand and spot; None for a family that we don't know."""
    found = re.match(r"[a-z]+", instance_type)
    known = _CODES.get(found[0]) if found else None
    if known is not None and instance_type.startswith("p5"):
        return known[0], _P5_SPOT
    return known


def check_quota(region: str, instance_type: str) -> list[Finding]:
    """One finding for on-demand, one for spot."""
    known = codes(instance_type)
    if known is None:
        return [warn("quota", f"which quota counts for {instance_type} isn't known here")]
    ec2 = Ec2(region)
    types = ec2.call("describe_instance_types", InstanceTypes=[instance_type])["InstanceTypes"]
    need = int(types[0]["VCpuInfo"]["DefaultVCpus"])
    used = _in_use(ec2, known)
    found = []
    for market, code in zip(("on-demand", "spot"), known, strict=True):
        if code is not None:
            found.append(_market(region, instance_type, market, code, need, used[market]))
    return found


def _market(
    region: str, instance_type: str, market: str, code: str, need: int, used: int
) -> Finding:
    check = f"quota, {market}"
    try:
        limit, name = _limit(region, code)
    except AwsError as error:
        why = "servicequotas:GetServiceQuota is missing" if error.kind is Kind.DENIED else error
        return warn(check, f"can't be seen: {why}")
    says = f"{instance_type} needs {need} vCPUs, {used} of {limit} are in use ({name})"
    if need + used <= limit:
        return ok(check, says)
    # More than both is asked for: a request takes days, and the next machine comes soon.
    todo = (
        f"`aws service-quotas request-service-quota-increase --region {region} --service-code ec2 "
        f"--quota-code {code} --desired-value {max(need + used, 2 * need)}`, or another type"
    )
    return fail(check, says, todo) if limit < need else warn(check, says, todo)


def _limit(region: str, code: str) -> tuple[int, str]:
    client = make_client("service-quotas", region, connect=4, read=8, attempts=2)
    with calling(lambda error: error):
        try:
            answer: dict[str, Any] = client.get_service_quota(ServiceCode="ec2", QuotaCode=code)
        except client.exceptions.NoSuchResourceException:
            # Never changed for this account: then AWS's own default counts.
            answer = client.get_aws_default_service_quota(ServiceCode="ec2", QuotaCode=code)
    return int(answer["Quota"]["Value"]), str(answer["Quota"].get("QuotaName", code))


def _in_use(ec2: Ec2, wanted: tuple[str, str | None]) -> dict[str, int]:
    """vCPUs of the account's running instances that count for these quotas."""
    used = {"on-demand": 0, "spot": 0}
    running = {"Name": "instance-state-name", "Values": ["pending", "running"]}
    for reservation in ec2.pages("describe_instances", "Reservations", Filters=[running]):
        for instance in reservation.get("Instances", ()):
            known = codes(str(instance.get("InstanceType", "")))
            market = "spot" if instance.get("InstanceLifecycle") == "spot" else "on-demand"
            if known is None or known[market == "spot"] != wanted[market == "spot"]:
                continue
            cpus = instance.get("CpuOptions") or {}
            used[market] += int(cpus.get("CoreCount", 1)) * int(cpus.get("ThreadsPerCore", 2))
    return used
