"""The image of jobs, where it lies in ECR, and the group of their logs."""

from __future__ import annotations

import re
from typing import Any

from runner.aws.clients import make_client
from runner.aws.errors import AwsError, ErrorKind, calling
from runner.targets.batch.account import names
from runner.targets.ec2.account.doctor.findings import Finding, fail, ok, warn

_ECR = re.compile(
    r"(?P<account>[0-9]{12})\.dkr\.ecr(-fips)?\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(\.cn)?/"
    r"(?P<name>[a-z0-9._/-]+?)(:(?P<tag>[\w][\w.-]{0,127}))?(@(?P<digest>sha256:[0-9a-f]{64}))?"
)


def check_image(image: str, region: str) -> list[Finding]:
    """Whether ECR has it; another registry isn't asked."""
    check = f"image {image}"
    parts = _ECR.fullmatch(image)
    if parts is None:
        says = "not in ECR: whether it can be pulled shows only when a job starts"
        return [warn(check, says, "for many jobs copy it into ECR: other registries limit pulls")]
    which = {"imageDigest": parts["digest"]} if parts["digest"] else None
    which = which or {"imageTag": parts["tag"] or "latest"}
    client = make_client("ecr", parts["region"], connect=4, read=8, attempts=2)
    try:
        with calling(lambda error: error):
            answer: dict[str, Any] = client.describe_images(
                registryId=parts["account"], repositoryName=parts["name"], imageIds=[which]
            )
    except AwsError as error:
        return [_refused(check, error, next(iter(which.values())), parts["name"])]
    found = answer["imageDetails"][0]
    size = int(found.get("imageSizeInBytes", 0)) / 2**20
    says = f"{found.get('imageDigest', '')[:19]}…, {size:,.0f} MiB"
    if parts["region"] != region:
        todo = f"copy it to {region}: each pull goes there, and is paid"
        return [warn(check, f"{says}, in {parts['region']}", todo)]
    return [ok(check, says)]


def _refused(check: str, error: AwsError, which: str, repository: str) -> Finding:
    match error.code:
        case "RepositoryNotFoundException":
            todo = f"`aws ecr create-repository --repository-name {repository}`, and push it"
            return fail(check, f"there is no repository {repository}", todo)
        case "ImageNotFoundException":
            todo = f"push it, or `aws ecr list-images --repository-name {repository}`"
            return fail(check, f"the repository has no image {which}", todo)
    if error.kind is ErrorKind.DENIED:
        return warn(check, "can't be seen: ecr:DescribeImages is missing")
    return fail(check, str(error), "try again")


def check_log_group(region: str) -> list[Finding]:
    """Whether what jobs print has a place, and an end."""
    check = "log group"
    client = make_client("logs", region, connect=4, read=8, attempts=2)
    try:
        with calling(lambda error: error):
            answer: dict[str, Any] = client.describe_log_groups(logGroupNamePrefix=names.LOG_GROUP)
    except AwsError as error:
        if error.kind is ErrorKind.DENIED:
            return [warn(check, "can't be seen: logs:DescribeLogGroups is missing")]
        return [fail(check, str(error), "try again")]
    groups = [each for each in answer["logGroups"] if each.get("logGroupName") == names.LOG_GROUP]
    if not groups:
        says = f"there is no {names.LOG_GROUP} yet: Batch makes it with the first job"
        return [warn(check, says, "`runner setup --batch` makes it, with an end to it")]
    days = groups[0].get("retentionInDays")
    if days is None:
        command = (
            f"aws logs put-retention-policy --region {region} "
            f"--log-group-name {names.LOG_GROUP} --retention-in-days 30"
        )
        return [warn(check, f"{names.LOG_GROUP} keeps lines for ever", f"`{command}`")]
    return [ok(check, f"{names.LOG_GROUP} keeps lines for {days} days")]
