"""What `runner setup --batch` makes in an account: a plan of stacks.

The permissions are one stack for all regions (IAM is), in the region where they were first made;
the log group is one a region; a compute environment and its queue are one stack, if asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runner.aws.clients import make_client
from runner.aws.errors import calling
from runner.aws.stacks import Stack, Stacks
from runner.errors import UsageError
from runner.targets.batch.account import iam, leftovers, names
from runner.targets.ec2.account.setup import DEFAULT_PREFIX
from runner.targets.ec2.account.stack_plans import (
    BucketRequest,
    SetupPlan,
    SetupStep,
    added,
    bucket_steps,
    holds,
    home_region,
    make_step,
    stores_of,
)

PERMISSIONS_STACK = "runner-batch-permissions"
LOGS_STACK = "runner-batch-logs"

KINDS: Mapping[str, str] = {
    "fargate": "FARGATE",
    "fargate-spot": "FARGATE_SPOT",
    "ec2": "EC2",
    "spot": "SPOT",
}
"""``--compute``, and the type of a compute environment."""

DEFAULT_VCPUS = 64

WORDS: Mapping[str, Mapping[str, str]] = {
    iam.PERMISSIONS: {
        "JobRole": "role runner-batch-job, for the jobs' containers: reads {results}, and writes "
        "below jobs/ and work/ there; reads bundles{secrets}",
        "ExecutionRole": "role runner-batch-execution, for ECS before a container starts: pulls "
        "images from {repositories}; writes logs below /aws/batch{secrets}",
        "CoordinatorRole": "role runner-batch-coordinator, for a queue that is driven in Batch: "
        "registers and submits {definitions} to {queues}, ends jobs; reads and writes "
        "{results}{secrets}{notices}",
        "InstanceRole": "role runner-batch-instance, for machines of a compute environment on EC2",
        "InstanceProfile": "instance profile runner-batch-instance, which gives that role to them",
        "Drive": "policy runner-batch, for people: what the coordinator may do; reads logs; looks "
        "at what `runner doctor --batch` tells",
    },
    iam.LOGS: {"Lines": "log group /aws/batch/job: lines are kept for 30 days; it stays if the "
               "stack goes"},
    iam.COMPUTE: {
        "Network": "security group: nothing comes in",
        "Compute": "compute environment {name}-{kind} in {subnets}: at most {vcpus} vCPUs at once",
        "Queue": "job queue {name}, which runs there; nothing is paid while no job runs{price}",
    },
}  # fmt: skip
"""What each resource of the templates is, in words."""

_PRICES: Mapping[str, str] = {
    "FARGATE": "; then about 0.040 USD per vCPU and 0.0044 USD per GiB of memory an hour",
    "FARGATE_SPOT": "; then about a third of 0.040 USD per vCPU and 0.0044 USD per GiB an hour",
    "EC2": "; then what the instances cost that Batch chooses",
    "SPOT": "; then what the Spot instances cost that Batch chooses",
}
"""Fargate: us-east-1, Linux on x86 (aws.amazon.com/fargate/pricing)."""


@dataclass(frozen=True, slots=True)
class ComputeRequest:
    """A compute environment and its queue. ``subnets``: none for the default VPC's."""

    kind: str
    name: str = names.JOB_QUEUE
    vcpus: int = DEFAULT_VCPUS
    subnets: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class BatchSetupRequest:
    """What was asked for; None and () leave what is there as it is.

    ``definitions`` are names, ``repositories`` ARNs; both may end with ``*``.
    """

    region: str
    bucket: str | None = None
    create_bucket: bool = False
    prefix: str | None = None
    secrets: Sequence[str] = ()
    notices: Sequence[str] = ()
    kms_key: str | None = None
    versioning: bool = False
    definitions: Sequence[str] = ()
    repositories: Sequence[str] = ()
    compute: ComputeRequest | None = None


def compute_stack(name: str) -> str:
    """The name of the stack of a job queue; in a stack's name an underscore can't be."""
    return f"runner-batch-queue-{name.replace('_', '-')}"


def make_plan(wanted: BatchSetupRequest) -> SetupPlan:
    """Look at what is there, and change nothing. Raises UsageError, AwsError."""
    with calling(lambda error: error):
        caller = make_client("sts", wanted.region).get_caller_identity()
    account, partition = str(caller["Account"]), str(caller["Arn"]).split(":")[1]
    home = home_region(names.JOB_ROLE, "") or wanted.region
    there = Stacks(home).find(PERMISSIONS_STACK)
    if wanted.bucket is None and there is None:
        raise UsageError("which bucket is for the results? --bucket NAME, or --create-bucket NAME")
    steps: list[SetupStep] = []
    notes: list[str] = []
    if wanted.bucket is not None:
        bucket = (wanted.bucket, wanted.region, wanted.create_bucket)
        steps, notes = bucket_steps(BucketRequest(*bucket, wanted.kms_key, wanted.versioning))
    given = permissions(there.parameters if there else {}, wanted, partition, account)
    steps.append(_step(PERMISSIONS_STACK, home, iam.PERMISSIONS, given, there))
    if not holds(there):
        leftovers.refuse(leftovers.of_permissions(account, partition))
    steps += _logs(wanted.region, notes)
    if wanted.compute is not None:
        steps.append(_compute(wanted.region, wanted.compute))
    if home != wanted.region:
        notes.append(f"roles and policy are those that were made from {home}; IAM has no regions")
    return SetupPlan(account, partition, wanted.region, steps, notes)


def permissions(
    old: Mapping[str, str], wanted: BatchSetupRequest, partition: str, account: str
) -> dict[str, str]:
    """The parameters of the permissions: what was there, and what is asked for beside it."""
    prefix = f"{(wanted.prefix or DEFAULT_PREFIX).strip('/')}/*"
    bucket = [f"arn:{partition}:s3:::{wanted.bucket}"] if wanted.bucket else []

    def arns(service: str, kind: str, known: Sequence[str]) -> list[str]:
        return [f"arn:{partition}:{service}:*:{account}:{kind}/{name}" for name in known]

    def list_of(name: str, more: Sequence[str]) -> str:
        return added(old.get(name, ""), more)

    ours = [names.DEFINITIONS, *wanted.definitions]
    return {
        "BucketArns": list_of("BucketArns", bucket),
        "ResultArns": list_of("ResultArns", [f"{arn}/{prefix}" for arn in bucket]),
        "ResultPrefixes": list_of("ResultPrefixes", [prefix] if bucket else []),
        "SecretArns": list_of("SecretArns", wanted.secrets),
        "NoticeArns": list_of("NoticeArns", wanted.notices),
        "KmsKeyArn": wanted.kms_key or old.get("KmsKeyArn", ""),
        "QueueArns": list_of("QueueArns", arns("batch", "job-queue", ["*"])),
        "DefinitionArns": list_of("DefinitionArns", arns("batch", "job-definition", ours)),
        "RepositoryArns": list_of(
            "RepositoryArns", [*arns("ecr", "repository", ["*"]), *wanted.repositories]
        ),
    }


def _logs(region: str, notes: list[str]) -> list[SetupStep]:
    """None where Batch, or somebody, has made the group: it stays as it is."""
    there = Stacks(region).find(LOGS_STACK)
    if not holds(there) and _group_is_there(region):
        notes.append(f"the log group {names.LOG_GROUP} is there already, and stays as it is")
        return []
    return [_step(LOGS_STACK, region, iam.LOGS, {"Days": "30"}, there)]


def _group_is_there(region: str) -> bool:
    with calling(lambda error: error):
        client = make_client("logs", region)
        answer: dict[str, Any] = client.describe_log_groups(logGroupNamePrefix=names.LOG_GROUP)
    return any(group.get("logGroupName") == names.LOG_GROUP for group in answer["logGroups"])


def _compute(region: str, wanted: ComputeRequest) -> SetupStep:
    vpc, subnets = _network(region, wanted.subnets)
    stack = compute_stack(wanted.name)
    given = {
        "Kind": wanted.kind,
        "Name": wanted.name,
        "MaxvCpus": str(wanted.vcpus),
        "Vpc": vpc,
        "Subnets": ",".join(subnets),
        "InstanceTypes": "optimal",
    }
    return _step(stack, region, iam.COMPUTE, given, Stacks(region).find(stack))


def _network(region: str, named: Sequence[str]) -> tuple[str, list[str]]:
    """A VPC and its subnets: those named, else the default VPC's. Raises UsageError, AwsError."""
    default = {"Filters": [{"Name": "default-for-az", "Values": ["true"]}]}
    with calling(lambda error: error):
        client = make_client("ec2", region)
        which = {"SubnetIds": [*named]} if named else default
        found = client.describe_subnets(**which)["Subnets"]
    vpcs = {str(each["VpcId"]) for each in found}
    if not found:
        raise UsageError(f"{region} has no default VPC: --subnet ID names where jobs are to run")
    if len(vpcs) > 1:
        raise UsageError(f"--subnet: they are of several VPCs: {', '.join(sorted(vpcs))}")
    return vpcs.pop(), sorted(str(each["SubnetId"]) for each in found)


def _step(
    stack: str, region: str, name: str, given: Mapping[str, str], there: Stack | None
) -> SetupStep:
    def of(parameter: str) -> str:
        return _plain(given.get(parameter, ""))

    told = {
        "results": stores_of(given.get("ResultArns", "")),
        "secrets": "; reads the secrets that were named" if given.get("SecretArns") else "",
        "notices": "; tells the topics and buses that were named"
        if given.get("NoticeArns")
        else "",
        "repositories": f"ECR ({_repositories(given.get('RepositoryArns', ''))})",
        "definitions": f"job definitions {of('DefinitionArns')}",
        "queues": f"job queues {of('QueueArns')}",
        "name": given.get("Name", ""),
        "kind": given.get("Kind", ""),
        "subnets": given.get("Subnets", "").replace(",", ", "),
        "vcpus": given.get("MaxvCpus", ""),
        "price": _PRICES.get(given.get("Kind", ""), ""),
    }
    words = [text.format(**told) for text in WORDS[name].values()]
    return make_step(stack, region, iam.template(name), given, words, there)


def _repositories(arns: str) -> str:
    """With their accounts, where they aren't the caller's own."""
    first, *others = arns.split(",")
    named = [f"{arn.split(':')[4]}: {_plain(arn)}" for arn in others]
    return ", ".join([f"this account's {_plain(first)}", *named])


def _plain(arns: str) -> str:
    """Names out of ARNs."""
    return ", ".join(arn.partition("/")[2] for arn in arns.split(","))
