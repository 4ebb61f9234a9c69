"""All that is looked at on a laptop, before the first launch or when one fails."""

from __future__ import annotations

from functools import partial

from runner.aws.faults import AwsError
from runner.aws.stacks import Stacks
from runner.targets.ec2.doctor.account import who
from runner.targets.ec2.doctor.bucket import check_bucket
from runner.targets.ec2.doctor.findings import Check, Finding, examine, ok, warn
from runner.targets.ec2.doctor.permissions import check_end, check_launch, check_simulated
from runner.targets.ec2.doctor.quota import check_quota
from runner.targets.ec2.doctor.reach import check_documents, check_endpoints, check_plugin
from runner.targets.ec2.doctor.role import check_role
from runner.targets.ec2.setup import PERMISSIONS_STACK, buckets_of

DEFAULT_TYPE = "t3.medium"


def examine_laptop(region: str, bucket: str | None, instance_type: str | None) -> list[Finding]:
    """Everything; what needs credentials is left out where there are none."""
    caller, found = who(region)
    if caller is None:
        return [*found, *examine({"endpoints": partial(check_endpoints, region)})]
    kind = instance_type or DEFAULT_TYPE
    checks: dict[str, Check] = {
        "endpoints": partial(check_endpoints, region),
        "role": check_role,
        "bucket": partial(_buckets, region, bucket),
        "launch": partial(_launch, region, kind),
        "end": partial(check_end, region),
        "asking machines": partial(check_simulated, caller, region),
        "quota": partial(check_quota, region, kind),
        "SSM documents": partial(check_documents, region),
        "session plugin": check_plugin,
    }
    return [*found, ok("region", region), *examine(checks)]


def _launch(region: str, kind: str) -> list[Finding]:
    # With a profile that isn't there EC2 would say that, and nothing of permissions.
    there = not any(each.todo for each in check_role())
    return check_launch(region, kind, with_role=there)


def _buckets(region: str, bucket: str | None) -> list[Finding]:
    """The bucket asked for, else those that `setup` was told of, where we may see that."""
    if bucket is not None:
        return check_bucket(bucket, region)
    try:
        made = Stacks(region).find(PERMISSIONS_STACK)
    except AwsError:
        made = None
    known = buckets_of(made) if made else []
    if not known:
        return [warn("bucket", "none was named: not looked at", "`runner doctor --bucket NAME`")]
    return [each for name in known for each in check_bucket(name, region)]
