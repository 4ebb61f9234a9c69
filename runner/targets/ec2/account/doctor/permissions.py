"""What we may do in EC2, asked of EC2 itself by calls that do nothing (DryRun), and of IAM.

EC2 checks a dry run as it would the call (API reference, "DryRun"), iam:PassRole too, and answers
DryRunOperation or UnauthorizedOperation.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from runner.aws.clients import make_client
from runner.aws.ec2 import ALIVE, Ec2
from runner.aws.errors import AwsError, ErrorKind, calling, part_of
from runner.targets.ec2 import names
from runner.targets.ec2.account.doctor.account import Caller
from runner.targets.ec2.account.doctor.findings import Finding, fail, ok, warn

_IMAGE = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-{arch}"
_TODO = "attach the policy runner-launch, which `runner setup` makes"
_DOCUMENT = "{arn}:ssm:{region}:{account}:document/{name}"


def check_launch(region: str, instance_type: str, with_role: bool) -> list[Finding]:
    """Whether a machine could be launched: a dry run of what `launch` does."""
    check = "launch (dry run)"
    ec2 = Ec2(region)
    try:
        image = _image(ec2, region, instance_type)
    except AwsError as error:
        return [fail(check, f"no image can be looked up: {error}", _TODO)]
    tags = [{"Key": names.QUEUE, "Value": "doctor"}]
    made = ("instance", "volume", "network-interface")
    role = {"IamInstanceProfile": {"Name": names.PROFILE}} if with_role else {}
    what = "tagged, with the role" if with_role else "tagged"
    return [
        _dry(
            ec2,
            check,
            f"{instance_type}, {what}",
            "run_instances",
            MinCount=1,
            MaxCount=1,
            ImageId=image,
            InstanceType=instance_type,
            MetadataOptions={"HttpTokens": "required"},
            TagSpecifications=[{"ResourceType": each, "Tags": tags} for each in made],
            **role,
        )
    ]


def check_end(region: str) -> list[Finding]:
    """Whether machines of ours could be ended; nobody can say while there is none."""
    check = "end (dry run)"
    ec2 = Ec2(region)
    machines = ec2.machines({names.QUEUE: None}, ALIVE)
    if not machines:
        return [ok(check, f"no machine of runner's is in {region}: nothing to try it on")]
    found = [
        _dry(
            ec2, check, "a machine of runner's", "terminate_instances",
            InstanceIds=[machines[0].instance_id],
        )
    ]  # fmt: skip
    requests = [machine.spot_request for machine in machines if machine.spot_request]
    if requests:
        found.append(
            _dry(
                ec2, check, "its spot request", "cancel_spot_instance_requests",
                SpotInstanceRequestIds=requests[:1],
            )
        )  # fmt: skip
    return found


def check_simulated(caller: Caller, region: str) -> list[Finding]:
    """What IAM's simulator says of the calls that know no dry run. Who may not ask it isn't told.

    It doesn't know policies of organisations, nor conditions on tags that are not there yet.
    """
    check = "asking machines (simulated)"
    source = simulated_as(caller)
    if source is None:
        return []
    base = f"arn:{caller.partition}"
    fields = {"arn": base, "region": region, "account": caller.account}
    documents = [
        _DOCUMENT.format(**fields, name=name) for name in (names.LOOK_DOCUMENT, names.ACT_DOCUMENT)
    ]
    wanted: list[tuple[str, Sequence[str]]] = [
        ("ssm:SendCommand", documents),
        ("ssm:GetCommandInvocation", ["*"]),
    ]
    try:
        refused = [
            f"{action} on {each['EvalResourceName']}"
            for action, resources in wanted
            for each in simulate(source, action, resources)
            if each["EvalDecision"] != "allowed"
        ]
    except AwsError:
        return []
    if refused:
        return [fail(check, f"denied: {', '.join(refused)}", _TODO)]
    return [ok(check, "ssm:SendCommand with Runner-Look and Runner-Act is allowed")]


def simulate(source: str, action: str, resources: Sequence[str]) -> list[dict[str, Any]]:
    """What IAM's simulator says, one result a resource. Raises AwsError."""
    with calling(lambda error: error):
        client = make_client("iam", "us-east-1", connect=4, read=8, attempts=1)
        answer: dict[str, Any] = client.simulate_principal_policy(
            PolicySourceArn=source, ActionNames=[action], ResourceArns=list(resources)
        )
    return list(part_of(answer, "SimulatePrincipalPolicy", "EvaluationResults"))


def simulated_as(caller: Caller) -> str | None:
    """The user, or the role behind a session: the simulator knows no sessions, and no root."""
    if (
        found := re.fullmatch(r"(arn:[a-z-]+):sts::(\d+):assumed-role/([^/]+)/.*", caller.arn)
    ) and (
        not found[3].startswith("AWSReservedSSO_")  # its path isn't in the session's ARN
    ):
        return f"{found[1]}:iam::{found[2]}:role/{found[3]}"
    return caller.arn if ":user/" in caller.arn else None


def _image(ec2: Ec2, region: str, instance_type: str) -> str:
    types = ec2.call("describe_instance_types", InstanceTypes=[instance_type])["InstanceTypes"]
    arches = types[0].get("ProcessorInfo", {}).get("SupportedArchitectures", [])
    arch = "arm64" if "arm64" in arches else "x86_64"
    with calling(lambda error: error):
        client = make_client("ssm", region, connect=4, read=8, attempts=2)
        answer: dict[str, Any] = client.get_parameters(Names=[_IMAGE.format(arch=arch)])
    found = part_of(answer, "GetParameters", "Parameters")
    if not found:
        raise AwsError(
            ErrorKind.MISSING, "ParameterNotFound", f"{region} names no image for {arch}"
        )
    return str(found[0]["Value"])


def _dry(ec2: Ec2, check: str, what: str, operation: str, **parameters: Any) -> Finding:
    try:
        ec2.call(operation, DryRun=True, **parameters)
    except AwsError as error:
        if error.code == "DryRunOperation":
            return ok(check, f"{what}: allowed")
        if error.kind is ErrorKind.DENIED:
            return fail(check, f"{what}: {_short(str(error))}", _TODO)
        todo = "name subnet and security group at launch" if "VPC" in str(error) else ""
        return warn(check, f"{what}: not known: {_short(str(error))}", todo)
    return warn(check, f"{what}: EC2 gave no answer to a dry run")


def _short(message: str) -> str:
    """Without the encoded part, which only an administrator can decode."""
    return message.partition(" Encoded authorization failure message")[0]
