"""The role that machines get: there, in a profile of the same name, and EC2 may give it."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import unquote

from runner.aws.clients import make_client
from runner.aws.errors import AwsError, ErrorKind, calling
from runner.targets.ec2 import names
from runner.targets.ec2.account.doctor.findings import Finding, fail, ok, warn

_CHECK = "role"
_EC2 = "ec2.amazonaws.com"
_SETUP = "`runner setup` makes it"


def check_role(name: str = names.PROFILE) -> list[Finding]:
    """What there is to say of the role and its profile."""
    client = make_client("iam", "us-east-1", connect=4, read=8, attempts=2)
    try:
        with calling(lambda error: error):
            profile: dict[str, Any] = client.get_instance_profile(InstanceProfileName=name)
    except AwsError as error:
        return [_refused(error, f"instance profile {name}")]
    roles = profile["InstanceProfile"].get("Roles", [])
    if not roles:
        says = f"the instance profile {name} holds no role: the machine could do nothing"
        todo = f"delete it (aws iam delete-instance-profile --instance-profile-name {name}); "
        return [fail(_CHECK, says, f"{todo}then {_SETUP}")]
    trust = roles[0].get("AssumeRolePolicyDocument") or {}
    if not trusts(trust, _EC2):
        says = f"the role {roles[0]['RoleName']} doesn't trust EC2: no machine gets its keys"
        return [fail(_CHECK, says, "let ec2.amazonaws.com do sts:AssumeRole in its trust policy")]
    return [ok(_CHECK, f"{roles[0]['Arn']}, and EC2 may give it to machines")]


def _refused(error: AwsError, what: str) -> Finding:
    if error.kind is ErrorKind.MISSING:
        return fail(_CHECK, f"there is no {what}", f"{_SETUP}, once per account")
    if error.kind is ErrorKind.DENIED:
        return warn(_CHECK, f"{what} can't be seen: iam:GetInstanceProfile is missing")
    return fail(_CHECK, str(error), "try again")


def trusts(trust: Any, service: str) -> bool:
    """Whether a trust policy, as boto3 gives it (a document) or IAM (text, URL-encoded), lets a
    service take the role; in China its name has `.cn` behind it."""
    document = json.loads(unquote(trust)) if isinstance(trust, str) else trust
    statements = document.get("Statement", [])
    for each in statements if isinstance(statements, list) else [statements]:
        services = (each.get("Principal") or {}).get("Service", [])
        named = [services] if isinstance(services, str) else services
        if each.get("Effect") == "Allow" and any(name.startswith(service) for name in named):
            return True
    return False
