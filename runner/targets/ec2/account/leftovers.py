"""What has the names of `runner setup`'s resources, though no stack has made it.

A setup that failed half-way may leave some, and so may a stack that was deleted while a person had
its policy still. CloudFormation makes nothing whose name is taken: each later setup would fail
there, after half of its work. Looks only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from runner.aws.clients import make_client
from runner.aws.errors import AwsError, ErrorKind, calling
from runner.errors import UsageError
from runner.targets.ec2 import names

_MISSING = ("NoSuchEntity", "InvalidDocument")
"""IAM's and SSM's words."""

_PROFILE = f"--instance-profile-name {names.PROFILE}"


@dataclass(frozen=True, slots=True)
class Leftover:
    """``remove``: the commands that remove it, in order, once nothing uses it."""

    what: str
    remove: Sequence[str]


def of_permissions(account: str, partition: str) -> list[Leftover]:
    """Profile, role and policies, in the order in which they can be removed. Raises AwsError."""
    iam = make_client("iam", "us-east-1")  # IAM is one for all regions
    found = []
    if is_there(lambda: iam.get_instance_profile(InstanceProfileName=names.PROFILE)):
        out = f"aws iam remove-role-from-instance-profile {_PROFILE} --role-name {names.PROFILE}"
        delete = f"aws iam delete-instance-profile {_PROFILE}"
        found.append(Leftover(f"instance profile {names.PROFILE}", [out, delete]))
    if is_there(lambda: iam.get_role(RoleName=names.PROFILE)):
        role = f"--role-name {names.PROFILE}"
        inline = f"aws iam delete-role-policy {role} --policy-name runner"
        found.append(Leftover(f"role {names.PROFILE}", [inline, f"aws iam delete-role {role}"]))
    for name in (names.LAUNCH_POLICY, names.LOOK_POLICY):
        arn = f"arn:{partition}:iam::{account}:policy/{name}"
        if is_there(lambda arn=arn: iam.get_policy(PolicyArn=arn)):  # type: ignore[misc]
            remove = f"aws iam delete-policy --policy-arn {arn}"
            found.append(Leftover(f"policy {name}", [remove]))
    return found


def of_documents(region: str) -> list[Leftover]:
    """SSM's documents. Raises AwsError."""
    ssm = make_client("ssm", region)
    return [
        Leftover(
            f"SSM document {name}", [f"aws ssm delete-document --region {region} --name {name}"]
        )
        for name in (names.LOOK_DOCUMENT, names.ACT_DOCUMENT)
        if is_there(lambda name=name: ssm.describe_document(Name=name))  # type: ignore[misc]
    ]


def refuse(found: Sequence[Leftover]) -> None:
    """Raises UsageError if there is anything."""
    if found:
        what = ", ".join(each.what for each in found)
        raise UsageError(
            "\n".join(
                [
                    f"there already, and made by no stack of `runner setup` that is there: {what}",
                    "a setup that failed half-way may have left them; nothing was changed",
                    "if nothing uses them, remove them, and give the same command again:",
                    *(f"  {line}" for each in found for line in each.remove),
                ]
            )
        )


def is_there(look: Callable[[], object]) -> bool:
    """Whether a look finds it. Whoever may not look has not to know: CloudFormation says it
    then."""
    try:
        with calling(lambda error: error):
            look()
    except AwsError as error:
        if error.kind in (ErrorKind.MISSING, ErrorKind.DENIED) or error.code in _MISSING:
            return False
        raise
    return True
