"""All that is looked at on a laptop, before the first launch or when one fails."""

from __future__ import annotations

import time
from functools import partial

from runner.aws.stacks import Stacks
from runner.errors import RunnerError
from runner.targets.ec2.account.doctor.account import Caller, learn_who
from runner.targets.ec2.account.doctor.bucket import check_bucket
from runner.targets.ec2.account.doctor.findings import PATIENCE, Check, Finding, examine, ok, warn
from runner.targets.ec2.account.doctor.notices import check_rights
from runner.targets.ec2.account.doctor.permissions import check_end, check_launch, check_simulated
from runner.targets.ec2.account.doctor.quota import check_quota
from runner.targets.ec2.account.doctor.reach import check_documents, check_endpoints, check_plugin
from runner.targets.ec2.account.doctor.role import check_role
from runner.targets.ec2.account.doctor.scheduling import check_schedules
from runner.targets.ec2.account.setup import PERMISSIONS_STACK, buckets_of, home_of_role

DEFAULT_TYPE = "t3.medium"

FOR_WHO = 8.0
"""Seconds to learn who asks; all else needs that."""


def examine_laptop(region: str, bucket: str | None, instance_type: str | None) -> list[Finding]:
    """Everything; what needs credentials is left out where there are none."""
    began = time.monotonic()
    callers: list[Caller] = []
    found = examine({"credentials": partial(learn_who, region, callers)}, FOR_WHO)
    left = PATIENCE - (time.monotonic() - began)
    if not callers:
        return [*found, *examine({"endpoints": partial(check_endpoints, region)}, left)]
    kind = instance_type or DEFAULT_TYPE
    checks: dict[str, Check] = {
        "endpoints": partial(check_endpoints, region),
        "role": check_role,
        "bucket": partial(_buckets, region, bucket),
        "launch": partial(_launch, region, kind),
        "end": partial(check_end, region),
        "asking machines": partial(check_simulated, callers[0], region),
        "quota": partial(check_quota, region, kind),
        "SSM documents": partial(check_documents, region),
        "session plugin": check_plugin,
        "schedules": partial(check_schedules, region),
        "notices": partial(check_rights, region),
    }
    return [*found, ok("region", region), *examine(checks, left)]


def _launch(region: str, kind: str) -> list[Finding]:
    # With a profile that isn't there EC2 would say that, and nothing of permissions.
    there = not any(each.todo for each in check_role())
    return check_launch(region, kind, with_role=there)


def _buckets(region: str, bucket: str | None) -> list[Finding]:
    """The bucket asked for, else those that `setup` was told of, where we may see that."""
    if bucket is not None:
        return check_bucket(bucket, region)
    try:
        made = Stacks(home_of_role() or region).find(PERMISSIONS_STACK)
    except RunnerError:
        made = None
    known = buckets_of(made) if made else []
    if not known:
        return [warn("bucket", "none was named: not looked at", "`runner doctor --bucket NAME`")]
    return [each for name in known for each in check_bucket(name, region)]
