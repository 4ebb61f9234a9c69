"""Which instance profile a machine gets: the one that was named, else the one `setup` makes."""

from __future__ import annotations

from typing import Any

from runner.aws.clients import make_client
from runner.aws.errors import AwsError, ErrorKind, calling
from runner.errors import UsageError
from runner.targets.ec2 import names


def profile(given: str | None) -> tuple[str, list[str]]:
    """The profile's name or ARN as RunInstances takes it, and notes.

    Raises UsageError where there is none, or it holds no role; AwsError. Who may not look
    (iam:GetInstanceProfile) launches all the same: EC2 says if it can't be used.
    """
    name = (given or names.PROFILE).rpartition("/")[2]
    client = make_client("iam", "us-east-1")  # IAM is one for all regions
    try:
        with calling(lambda error: error):
            found: dict[str, Any] = client.get_instance_profile(InstanceProfileName=name)
    except AwsError as error:
        if error.kind is ErrorKind.MISSING:
            raise UsageError(_missing(given, name)) from error
        if error.kind is ErrorKind.DENIED:
            return given or names.PROFILE, [
                f"the instance profile {name} could not be looked at: {error}"
            ]
        raise
    if not found["InstanceProfile"].get("Roles"):
        raise UsageError(f"the instance profile {name} holds no role: the machine could do nothing")
    return given or names.PROFILE, []


def _missing(given: str | None, name: str) -> str:
    if given is None:
        return (
            f"no --iam-role is given, and this account has no instance profile {name}: "
            "`runner setup` makes it, once per account"
        )
    return (
        f"--iam-role: there is no instance profile {name}; a role needs a profile of its own to be "
        "given to a machine (aws iam list-instance-profiles shows them)"
    )
