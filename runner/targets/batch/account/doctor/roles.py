"""The roles of jobs, of ECS and of coordinators: there, trusted by ECS, and able to work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from runner.aws.clients import make_client
from runner.aws.errors import AwsError, ErrorKind, calling
from runner.targets.batch.account import names
from runner.targets.ec2.account.doctor.account import Caller
from runner.targets.ec2.account.doctor.findings import Finding, fail, ok, warn
from runner.targets.ec2.account.doctor.permissions import simulate, simulated_as
from runner.targets.ec2.account.doctor.role import trusts

TASKS = "ecs-tasks.amazonaws.com"
"""Whom a role trusts that a container is to have (ECS Developer Guide, "Task IAM role")."""

_SETUP = "`runner setup --batch` makes it, once per account"

Wanted = Sequence[tuple[str, Sequence[str]]]
"""Actions with the resources on which each is needed."""


def check_roles(
    caller: Caller,
    region: str,
    buckets: Sequence[str],
    job_role: str | None = None,
    execution_role: str | None = None,
    coordinator_role: str | None = None,
) -> list[Finding]:
    """One finding for each role that containers have: those given by ARN, else those that
    `setup --batch` makes."""
    given = {
        names.JOB_ROLE: job_role,
        names.EXECUTION_ROLE: execution_role,
        names.COORDINATOR_ROLE: coordinator_role,
    }
    return [
        _check((given.get(name) or name).rpartition("/")[2], wanted)
        for name, wanted in _wanted(caller, region, buckets).items()
    ]


def check_rights(caller: Caller, region: str, queue: str) -> list[Finding]:
    """What IAM's simulator says of the caller's own calls. Who may not ask it isn't told."""
    check = "your rights (simulated)"
    source = simulated_as(caller)
    if source is None:
        return []
    batch = f"arn:{caller.partition}:batch:{region}:{caller.account}"
    wanted: Wanted = [
        ("batch:SubmitJob", [f"{batch}:job-queue/{queue}", f"{batch}:job-definition/runner-x:1"]),
        ("batch:RegisterJobDefinition", [f"{batch}:job-definition/runner-x"]),
        ("batch:TerminateJob", [f"{batch}:job/x"]),
        ("batch:DescribeJobs", ["*"]),
    ]
    refused = _refused(source, wanted)
    if refused is None:
        return []
    if refused:
        todo = f"attach the policy {names.POLICY}, which `runner setup --batch` makes"
        return [fail(check, f"denied: {', '.join(refused)}", todo)]
    return [ok(check, "registering, submitting, looking and ending are allowed")]


def _wanted(caller: Caller, region: str, buckets: Sequence[str]) -> Mapping[str, Wanted]:
    queues = [f"arn:{caller.partition}:s3:::{bucket}/queues/x" for bucket in buckets]
    logs = f"arn:{caller.partition}:logs:{region}:{caller.account}:log-group:{names.LOG_GROUP}"
    batch = f"arn:{caller.partition}:batch:{region}:{caller.account}"
    return {
        names.JOB_ROLE: [
            ("s3:PutObject", [f"{queue}/jobs/a/end.json" for queue in queues]),
            ("s3:GetObject", [f"{queue}/submissions/a.json" for queue in queues]),
        ],
        names.EXECUTION_ROLE: [
            ("ecr:GetAuthorizationToken", ["*"]),
            ("logs:PutLogEvents", [f"{logs}:log-stream:x"]),
        ],
        names.COORDINATOR_ROLE: [
            ("batch:SubmitJob", [f"{batch}:job-definition/runner-x:1"]),
            ("s3:PutObject", [f"{queue}/queue-state.json" for queue in queues]),
        ],
    }


def _check(name: str, wanted: Wanted) -> Finding:
    check = f"role {name}"
    client = make_client("iam", "us-east-1", connect=4, read=8, attempts=2)
    try:
        with calling(lambda error: error):
            role: dict[str, Any] = client.get_role(RoleName=name)["Role"]
    except AwsError as error:
        if error.kind is ErrorKind.MISSING or error.code == "NoSuchEntity":
            return fail(check, "there is no such role", _SETUP)
        if error.kind is ErrorKind.DENIED:
            return warn(check, "can't be seen: iam:GetRole is missing")
        return fail(check, str(error), "try again")
    if not trusts(role.get("AssumeRolePolicyDocument") or {}, TASKS):
        todo = f"let {TASKS} do sts:AssumeRole in its trust policy"
        return fail(check, "it doesn't trust ECS: no container gets its keys", todo)
    refused = _refused(str(role["Arn"]), wanted)
    if refused:
        todo = "`runner setup --batch` with the bucket; a boundary or a policy may take it away"
        return fail(check, f"denied: {', '.join(refused)}", todo)
    tried = "" if refused is None else ", and may do what it is for (simulated)"
    return ok(check, f"{role['Arn']}: ECS may take it{tried}")


def _refused(source: str, wanted: Wanted) -> list[str] | None:
    """What the simulator refuses; None where it can't be asked."""
    try:
        return [
            f"{action} on {each.get('EvalResourceName', '*')}"
            for action, resources in wanted
            if resources
            for each in simulate(source, action, resources)
            if each["EvalDecision"] != "allowed"
        ]
    except AwsError:
        return None
