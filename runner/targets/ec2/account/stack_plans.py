"""A plan of CloudFormation stacks, and the carrying out of it; the stack of a bucket among them.

It knows no template but the bucket's: whoever sets up something puts the steps together. Names of
buckets, prefixes and secrets are only ever added: what is there keeps its rights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from runner.aws.clients import S3Client, make_client
from runner.aws.errors import AwsError, ErrorKind, calling
from runner.aws.stacks import Event, Stack, Stacks
from runner.errors import UsageError
from runner.targets.ec2 import names
from runner.targets.ec2.account import iam

BUCKET_WORDS = (
    "bucket {bucket}: encrypted, closed to the public; uploads that were cut go after 7 days; it "
    "stays if the stack goes"
)


@dataclass(frozen=True, slots=True)
class SetupStep:
    """One stack. ``there``: how it stands now; ``same``: it is as it should be."""

    stack: str
    region: str
    template: str
    parameters: Mapping[str, str]
    words: Sequence[str]
    there: bool
    same: bool


@dataclass(frozen=True, slots=True)
class SetupPlan:
    """All stacks, in the order in which they are made."""

    account: str
    partition: str
    region: str
    steps: Sequence[SetupStep]
    notes: Sequence[str] = field(default=())

    @property
    def nothing(self) -> bool:
        """Whether all is there as it should be."""
        return all(step.same for step in self.steps)

    def policy(self, name: str) -> str:
        """The ARN of a policy for people, to be attached to them."""
        return f"arn:{self.partition}:iam::{self.account}:policy/{name}"

    def role(self, name: str) -> str:
        """The ARN of a role."""
        return f"arn:{self.partition}:iam::{self.account}:role/{name}"


@dataclass(frozen=True, slots=True)
class Done:
    """What became of a stack: ``created``, ``updated`` or ``unchanged``; what it says of itself."""

    stack: str
    region: str
    result: str
    outputs: Mapping[str, str]


# -- the plan --------------------------------------------------------------------------------


def make_step(
    stack: str,
    region: str,
    template: str,
    parameters: Mapping[str, str],
    words: Sequence[str],
    there: Stack | None,
) -> SetupStep:
    """``there``: the stack of that name, if there is one. Raises AwsError."""
    same = there is not None and Stacks(region).is_as(there, template, parameters)
    return SetupStep(stack, region, template, parameters, words, there is not None, same)


def added(old: str, more: Sequence[str]) -> str:
    """A parameter that is a list, with what is to be in it beside what was."""
    return ",".join(dict.fromkeys([*filter(None, old.split(",")), *more]))


def stores_of(arns: str) -> str:
    """What the ARNs of S3's keys in a parameter are, for people."""
    return ", ".join(f"s3://{arn.partition(':::')[2]}" for arn in arns.split(","))


def holds(stack: Stack | None) -> bool:
    """Whether what has its resources' names is, or may be, its own."""
    return stack is not None and stack.status != "ROLLBACK_COMPLETE"


def home_region(role: str, instead: str) -> str | None:
    """The region whose stack made a role of ours; None if there is no such role.

    ``instead``: what else could be done about a role of that name that isn't ours. Raises
    UsageError for one, AwsError.
    """
    try:
        with calling(lambda error: error):
            client = make_client("iam", "us-east-1")  # IAM is one for all regions
            found: dict[str, Any] = client.get_role(RoleName=role)["Role"]
    except AwsError as error:
        if error.kind is ErrorKind.MISSING or error.code == "NoSuchEntity":
            return None
        raise
    tags = {str(tag["Key"]): str(tag["Value"]) for tag in found.get("Tags", ())}
    if names.HOME not in tags:
        raise UsageError(
            f"the account has a role {role} that `runner setup` has not made; delete or rename "
            f"it{instead}"
        )
    return tags[names.HOME]


# -- the bucket ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BucketRequest:
    """The bucket for results that was asked for. ``create``: it is to be made."""

    name: str
    region: str
    create: bool = False
    kms_key: str | None = None
    versioning: bool = False


def bucket_stack(bucket: str) -> str:
    """The name of the stack that makes a bucket: letters, digits and hyphens are allowed in it."""
    return f"runner-bucket-{bucket.replace('.', '-')}"


def bucket_steps(wanted: BucketRequest) -> tuple[list[SetupStep], list[str]]:
    """The stack of a bucket that is to be made, none for one that is there; and notes.

    Raises UsageError for a bucket that can't be used, or is there and isn't to be; AwsError.
    """
    bucket = wanted.name
    region = bucket_region(bucket, wanted.region)
    stack = Stacks(wanted.region).find(bucket_stack(bucket)) if wanted.create else None
    if region is None and not wanted.create:
        raise UsageError(f"there is no bucket {bucket}; --create-bucket {bucket} makes it")
    if region is not None and wanted.create and not holds(stack):
        raise UsageError(f"the bucket {bucket} is there already: --bucket {bucket} uses it")
    notes = []
    if region not in (None, wanted.region):
        pays = f"machines in {wanted.region} pay for transfer"
        notes.append(f"the bucket {bucket} is in {region}: {pays}")
    return [_bucket_step(wanted, stack)] if wanted.create else [], notes


def bucket_region(bucket: str, region: str) -> str | None:
    """Where a bucket is; None if there is none. Raises UsageError if it is somebody else's."""
    try:
        with calling(lambda error: error):
            answer: dict[str, Any] = S3Client(1, region).get().head_bucket(Bucket=bucket)
    except AwsError as error:
        if error.kind is ErrorKind.MISSING:
            return None
        if error.kind is ErrorKind.DENIED:
            raise UsageError(
                f"the bucket {bucket} is denied: it is another account's, or you lack s3:ListBucket"
            ) from error
        raise
    headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    told = answer.get("BucketRegion") or headers.get("x-amz-bucket-region")
    return str(told or "us-east-1")


def _bucket_step(wanted: BucketRequest, there: Stack | None) -> SetupStep:
    parameters = {
        "Bucket": wanted.name,
        "KmsKeyArn": wanted.kms_key or "",
        "Versioning": "yes" if wanted.versioning else "no",
    }
    if there is not None:
        # Said once, at its making; another setup doesn't take it back.
        parameters |= {name: value for name, value in there.parameters.items() if value == "yes"}
    words = [BUCKET_WORDS.format(bucket=wanted.name)]
    template = iam.template(iam.BUCKET)
    stack = bucket_stack(wanted.name)
    return make_step(stack, wanted.region, template, parameters, words, there)


# -- carrying it out -------------------------------------------------------------------------


def carry_out(plan: SetupPlan, tell: Callable[[SetupStep, Event], None]) -> list[Done]:
    """Make all stacks, one after another. Raises StackFailed, AwsError: those before it stay."""
    return [_make(step, tell) for step in plan.steps]


def _make(step: SetupStep, tell: Callable[[SetupStep, Event], None]) -> Done:
    stacks, result = Stacks(step.region), "unchanged"
    if not step.same:
        result = stacks.deploy(
            step.stack, step.template, step.parameters, lambda event: tell(step, event)
        )
    made = stacks.find(step.stack)
    return Done(step.stack, step.region, result, made.outputs if made else {})
