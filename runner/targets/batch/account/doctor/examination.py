"""All that is looked at before a queue is run on Batch, or when jobs there don't start."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial

from runner.aws.stacks import Stacks
from runner.errors import RunnerError
from runner.model.batch_settings import BatchSettings
from runner.targets.batch.account import names
from runner.targets.batch.account.doctor.image import check_image, check_log_group
from runner.targets.batch.account.doctor.network import check_network
from runner.targets.batch.account.doctor.queue import (
    check_environments,
    check_queue,
    look_at_queue,
)
from runner.targets.batch.account.doctor.roles import check_rights, check_roles
from runner.targets.batch.account.setup import PERMISSIONS_STACK
from runner.targets.ec2.account.doctor.account import Caller, learn_who
from runner.targets.ec2.account.doctor.bucket import check_bucket
from runner.targets.ec2.account.doctor.findings import Check, Finding, examine, ok, warn
from runner.targets.ec2.account.setup import buckets_of
from runner.targets.ec2.account.stack_plans import home_region

PATIENCE = 15.0
"""Seconds for all checks together."""

FOR_WHO = 8.0
"""Seconds to learn who asks; all else needs that."""


def examine_batch(region: str, given: BatchSettings) -> list[Finding]:
    """Everything; what needs credentials is left out where there are none."""
    began = time.monotonic()
    callers: list[Caller] = []
    found = examine({"credentials": partial(learn_who, region, callers)}, FOR_WHO)
    if not callers:
        return found
    queue = (given.job_queue or names.JOB_QUEUE).rpartition("/")[2]
    bucket = (given.bucket or "").removeprefix("s3://").partition("/")[0] or None
    roles = [given.job_role, given.execution_role, given.coordinator_role]
    left = PATIENCE - (time.monotonic() - began)
    checks: dict[str, Check] = {
        "job queue": partial(_queue, region, queue),
        "roles": partial(_roles, callers[0], region, bucket, roles),
        "your rights": partial(check_rights, callers[0], region, queue),
        "log group": partial(check_log_group, region),
        "bucket": partial(_bucket, region, bucket),
    }
    for image in dict.fromkeys(filter(None, (given.image, given.agent_image))):
        checks[f"image {image}"] = partial(check_image, image, region)
    return [*found, ok("region", region), *examine(checks, left)]


def _queue(region: str, name: str) -> list[Finding]:
    queue, environments = look_at_queue(region, name)
    found = [*check_queue(region, name, queue), *check_environments(region, environments)]
    return [*found, *check_network(region, environments)]


def _roles(
    caller: Caller, region: str, bucket: str | None, given: Sequence[str | None]
) -> list[Finding]:
    return check_roles(caller, region, _buckets(region, bucket), *given)


def _bucket(region: str, bucket: str | None) -> Sequence[Finding]:
    known = _buckets(region, bucket)
    if not known:
        todo = "`runner doctor --batch --bucket NAME`"
        return [warn("bucket", "none was named: not looked at", todo)]
    return [each for name in known for each in check_bucket(name, region)]


def _buckets(region: str, bucket: str | None) -> list[str]:
    """The one asked for, else those that `setup --batch` was told of, where we may see that."""
    if bucket is not None:
        return [bucket]
    try:
        made = Stacks(home_region(names.JOB_ROLE, "") or region).find(PERMISSIONS_STACK)
    except RunnerError:
        return []
    return buckets_of(made) if made else []
