"""What has the names of `runner setup --batch`'s roles and policy, though no stack has made it.

Looks only; see the same for EC2.
"""

from __future__ import annotations

from runner.aws.clients import make_client
from runner.targets.batch.account import names
from runner.targets.ec2.account.leftovers import Leftover, is_there, refuse

__all__ = ["of_permissions", "refuse"]


def of_permissions(account: str, partition: str) -> list[Leftover]:
    """Profile, roles and policy, in the order in which they can be removed. Raises AwsError."""
    iam = make_client("iam", "us-east-1")  # IAM is one for all regions
    found = []
    profile = f"--instance-profile-name {names.INSTANCE_ROLE}"
    if is_there(lambda: iam.get_instance_profile(InstanceProfileName=names.INSTANCE_ROLE)):
        out = (
            f"aws iam remove-role-from-instance-profile {profile} --role-name {names.INSTANCE_ROLE}"
        )
        delete = f"aws iam delete-instance-profile {profile}"
        found.append(Leftover(f"instance profile {names.INSTANCE_ROLE}", [out, delete]))
    managed = f"arn:{partition}:iam::aws:policy/service-role/AmazonEC2ContainerServiceforEC2Role"
    for name in (
        names.JOB_ROLE,
        names.EXECUTION_ROLE,
        names.COORDINATOR_ROLE,
        names.INSTANCE_ROLE,
    ):
        if is_there(lambda name=name: iam.get_role(RoleName=name)):  # type: ignore[misc]
            role = f"--role-name {name}"
            first = (
                f"aws iam detach-role-policy {role} --policy-arn {managed}"
                if name == names.INSTANCE_ROLE
                else f"aws iam delete-role-policy {role} --policy-name runner"
            )
            found.append(Leftover(f"role {name}", [first, f"aws iam delete-role {role}"]))
    arn = f"arn:{partition}:iam::{account}:policy/{names.POLICY}"
    if is_there(lambda: iam.get_policy(PolicyArn=arn)):
        remove = f"aws iam delete-policy --policy-arn {arn}"
        found.append(Leftover(f"policy {names.POLICY}", [remove]))
    return found
