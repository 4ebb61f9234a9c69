"""The job queue and its compute environments: there, enabled, valid, and how large."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from runner.aws.clients import make_client
from runner.aws.errors import calling
from runner.targets.ec2.account.doctor.findings import Finding, fail, ok, warn

Document = dict[str, Any]


def look_at_queue(region: str, name: str) -> tuple[Document | None, list[Document]]:
    """The queue, None if there is none, and its compute environments in their order. Raises
    AwsError."""
    client = make_client("batch", region, connect=4, read=8, attempts=2)
    with calling(lambda error: error):
        queues = client.describe_job_queues(jobQueues=[name])["jobQueues"]
        if not queues:
            return None, []
        order = sorted(queues[0].get("computeEnvironmentOrder", ()), key=lambda each: each["order"])
        arns = [str(each["computeEnvironment"]) for each in order]
        answer = client.describe_compute_environments(computeEnvironments=arns) if arns else {}
    found = {str(each["computeEnvironmentArn"]): each for each in answer.get(_ALL, ())}
    return queues[0], [found[arn] for arn in arns if arn in found]


_ALL = "computeEnvironments"


def check_queue(region: str, name: str, queue: Document | None) -> list[Finding]:
    """What there is to say of the queue itself."""
    check = f"job queue {name}"
    if queue is None:
        todo = "`runner setup --batch --compute fargate` makes one; `aws batch describe-job-queues`"
        return [fail(check, f"there is no such job queue in {region}", todo)]
    says = _stands(queue)
    update = f"aws batch update-job-queue --region {region} --job-queue {name}"
    if queue.get("state") != "ENABLED":
        return [fail(check, f"{says}: it takes no jobs", f"`{update} --state ENABLED`")]
    if queue.get("status") != "VALID":
        return [fail(check, says, "look at its compute environments; else make another queue")]
    if not queue.get("computeEnvironmentOrder"):
        todo = f"`{update} --compute-environment-order order=1,computeEnvironment=NAME`"
        return [fail(check, f"{says}, and has no compute environment: no job ever starts", todo)]
    more = ", fair share: each job needs a share" if queue.get("schedulingPolicyArn") else ""
    return [ok(check, f"{says}, priority {queue.get('priority')}{more}")]


def check_environments(region: str, environments: Sequence[Document]) -> list[Finding]:
    """What there is to say of each; one that is well is enough for jobs to run."""
    return [_check_environment(region, each) for each in environments]


def is_fargate(environment: Document) -> bool:
    """Whether its jobs run on Fargate."""
    return str(environment.get("computeResources", {}).get("type", "")).startswith("FARGATE")


def _check_environment(region: str, found: Document) -> Finding:
    name = str(found["computeEnvironmentName"])
    check, says = f"compute environment {name}", _stands(found)
    update = f"aws batch update-compute-environment --region {region} --compute-environment {name}"
    if found.get("state") != "ENABLED":
        return fail(check, f"{says}: no job starts there", f"`{update} --state ENABLED`")
    if found.get("status") == "INVALID":
        todo = "mend what it names (role, subnets, security group), or make another one"
        return fail(check, says, todo)
    if found.get("status") != "VALID":
        return warn(check, f"{says}: jobs wait until it is VALID", "wait, and look again")
    resources = found.get("computeResources") or {}
    if not resources:
        return warn(check, f"{says}, unmanaged: its machines are your own to start")
    most = int(resources.get("maxvCpus", 0))
    size = f"{resources.get('type')}, at most {most} vCPUs"
    if types := resources.get("instanceTypes"):
        size += f" of {', '.join(types)}"
    if most < 1:
        return fail(check, f"{says}, {size}", f"`{update} --compute-resources maxvCpus=64`")
    return ok(check, f"{says}, {size}")


def _stands(found: Document) -> str:
    said = f"{found.get('state')}, {found.get('status')}"
    reason = str(found.get("statusReason") or "")
    healthy = reason.endswith("Healthy")
    return f"{said} ({reason})" if reason and not healthy else said
