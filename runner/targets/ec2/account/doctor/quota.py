"""How many vCPUs the account may run of a type's family, how many it does, and if one more fits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from runner.aws.clients import make_client
from runner.aws.ec2 import Ec2
from runner.aws.errors import AwsError, ErrorKind, calling, part_of
from runner.targets.ec2.account.doctor.findings import Finding, fail, ok, warn
from runner.targets.ec2.account.quotas import quota_of

MARKETS = ("on-demand", "spot")


def check_quota(region: str, instance_type: str) -> list[Finding]:
    """One finding for each market that the type has a quota of."""
    wanted = {market: quota_of(instance_type, market) for market in MARKETS}
    if not any(wanted.values()):
        return [warn("quota", f"which quota counts for {instance_type} isn't known here")]
    ec2 = Ec2(region)
    types = ec2.call("describe_instance_types", InstanceTypes=[instance_type])["InstanceTypes"]
    need = int(types[0]["VCpuInfo"]["DefaultVCpus"])
    used = _in_use(ec2, wanted)
    return [
        _market(region, instance_type, market, quota[1], need, used[market])
        for market, quota in wanted.items()
        if quota is not None
    ]


def _market(
    region: str, instance_type: str, market: str, code: str, need: int, used: int
) -> Finding:
    check = f"quota, {market}"
    try:
        limit, name = _limit(region, code)
    except AwsError as error:
        why = (
            "servicequotas:GetServiceQuota is missing" if error.kind is ErrorKind.DENIED else error
        )
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
    value = part_of(answer, "GetServiceQuota", "Quota", "Value")
    return int(value), str(answer["Quota"].get("QuotaName", code))


def _in_use(ec2: Ec2, wanted: Mapping[str, tuple[str, str] | None]) -> Counter[str]:
    """vCPUs of the account's running instances that count for these quotas, by market."""
    used: Counter[str] = Counter()
    running = {"Name": "instance-state-name", "Values": ["pending", "running"]}
    for reservation in ec2.pages("describe_instances", "Reservations", Filters=[running]):
        for instance in reservation.get("Instances", ()):
            market = "spot" if instance.get("InstanceLifecycle") == "spot" else "on-demand"
            quota = quota_of(str(instance.get("InstanceType", "")), market)
            if quota is None or quota != wanted[market]:
                continue
            cpus = instance.get("CpuOptions") or {}
            used[market] += int(cpus.get("CoreCount", 1)) * int(cpus.get("ThreadsPerCore", 2))
    return used
