"""What `runner setup` makes in an account: a plan of stacks, and the carrying out of it.

The permissions are one stack for all regions (IAM is), in the region where they were first made;
the documents are one stack a region, and so is each bucket. Names of buckets, prefixes and secrets
are only ever added: what is there keeps its rights.
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
from runner.targets.ec2.account import iam, leftovers

PERMISSIONS_STACK = "runner-permissions"
DOCUMENTS_STACK = "runner-documents"

DEFAULT_PREFIX = "queues"

WORDS: Mapping[str, Mapping[str, str]] = {
    iam.BUCKET: {
        "Store": "bucket {bucket}: encrypted, closed to the public; uploads that were cut go "
        "after 7 days; it stays if the stack goes",
    },
    iam.PERMISSIONS: {
        "Role": "role runner-instance, for the machines: reads and writes {results}; reads "
        "what launches have shipped, and writes how boots went; cancels spot requests that "
        "runner has tagged; terminates itself; is reached by SSM{secrets}",
        "Profile": "instance profile runner-instance, which gives that role to a machine",
        "Launch": "policy runner-launch, for people: launch machines that are tagged as "
        "runner's, ask them over SSM{shell}, end them; read and write the same places",
        "Look": "policy runner-look, for people: see machines, queues and results; no more",
    },
    iam.DOCUMENTS: {
        "Look": "SSM document Runner-Look: asks a machine how its queues stand",
        "Act": "SSM document Runner-Act: cancel, retry, pause, submit",
    },
}
"""What each resource of the templates is, in words."""


@dataclass(frozen=True, slots=True)
class SetupRequest:
    """What was asked for; None and () leave what is there as it is."""

    region: str
    bucket: str | None = None
    create_bucket: bool = False
    prefix: str | None = None
    secrets: Sequence[str] = ()
    kms_key: str | None = None
    shell: bool | None = None
    versioning: bool = False


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


@dataclass(frozen=True, slots=True)
class Done:
    """What became of a stack: ``created``, ``updated`` or ``unchanged``; what it says of itself."""

    stack: str
    region: str
    result: str
    outputs: Mapping[str, str]


def bucket_stack(bucket: str) -> str:
    """The name of the stack that makes a bucket: letters, digits and hyphens are allowed in it."""
    return f"runner-bucket-{bucket.replace('.', '-')}"


def buckets_of(permissions_stack: Stack) -> list[str]:
    """The buckets that the role may use."""
    arns = permissions_stack.parameters.get("BucketArns", "").split(",")
    return [arn.partition(":::")[2] for arn in arns if ":::" in arn]


# -- the plan --------------------------------------------------------------------------------


def make_plan(wanted: SetupRequest) -> SetupPlan:
    """Look at what is there, and change nothing. Raises UsageError, AwsError."""
    with calling(lambda error: error):
        caller = make_client("sts", wanted.region).get_caller_identity()
    partition = str(caller["Arn"]).split(":")[1]
    home = home_region() or wanted.region
    steps, notes = [], []
    there = Stacks(home).find(PERMISSIONS_STACK)
    if wanted.bucket is None and there is None:
        raise UsageError("which bucket is for the results? --bucket NAME, or --create-bucket NAME")
    if wanted.bucket is not None:
        notes += _look_at_bucket(wanted, wanted.bucket)
    if wanted.bucket is not None and wanted.create_bucket:
        steps.append(_bucket_step(wanted, wanted.bucket))
    parameters = permissions(there.parameters if there else {}, wanted, partition)
    steps.append(_step(PERMISSIONS_STACK, home, iam.PERMISSIONS, parameters, there))
    documents = Stacks(wanted.region).find(DOCUMENTS_STACK)
    steps.append(_step(DOCUMENTS_STACK, wanted.region, iam.DOCUMENTS, {}, documents))
    left = [] if _holds(there) else leftovers.of_permissions(str(caller["Account"]), partition)
    leftovers.refuse(left + ([] if _holds(documents) else leftovers.of_documents(wanted.region)))
    if home != wanted.region:
        notes.append(f"role and policies are those that were made from {home}; IAM has no regions")
    return SetupPlan(str(caller["Account"]), partition, wanted.region, steps, notes)


def _holds(stack: Stack | None) -> bool:
    """Whether what has its resources' names is, or may be, its own."""
    return stack is not None and stack.status != "ROLLBACK_COMPLETE"


def permissions(old: Mapping[str, str], wanted: SetupRequest, partition: str) -> dict[str, str]:
    """The parameters of the permissions: what was there, and what is asked for beside it."""
    prefix = f"{(wanted.prefix or DEFAULT_PREFIX).strip('/')}/*"
    bucket = [f"arn:{partition}:s3:::{wanted.bucket}"] if wanted.bucket else []
    return {
        "BucketArns": _with(old.get("BucketArns", ""), bucket),
        "ResultArns": _with(old.get("ResultArns", ""), [f"{arn}/{prefix}" for arn in bucket]),
        "ResultPrefixes": _with(old.get("ResultPrefixes", ""), [prefix] if bucket else []),
        "SecretArns": _with(old.get("SecretArns", ""), wanted.secrets),
        "KmsKeyArn": wanted.kms_key or old.get("KmsKeyArn", ""),
        "AllowShell": old.get("AllowShell", "yes")
        if wanted.shell is None
        else ("yes" if wanted.shell else "no"),
    }


def _with(old: str, more: Sequence[str]) -> str:
    return ",".join(dict.fromkeys([*filter(None, old.split(",")), *more]))


def home_region() -> str | None:
    """The region whose stack made the role; None if there is no role."""
    try:
        with calling(lambda error: error):
            client = make_client("iam", "us-east-1")  # IAM is one for all regions
            role: dict[str, Any] = client.get_role(RoleName=names.PROFILE)["Role"]
    except AwsError as error:
        if error.kind is ErrorKind.MISSING:
            return None
        raise
    tags = {str(tag["Key"]): str(tag["Value"]) for tag in role.get("Tags", ())}
    if names.HOME not in tags:
        raise UsageError(
            f"the account has a role {names.PROFILE} that `runner setup` has not made; delete or "
            "rename it, or give another with `runner launch --iam-role`"
        )
    return tags[names.HOME]


def _look_at_bucket(wanted: SetupRequest, bucket: str) -> list[str]:
    """Notes. Raises UsageError for a bucket that can't be used, or is there and isn't to be."""
    region = bucket_region(bucket, wanted.region)
    stack = Stacks(wanted.region).find(bucket_stack(bucket)) if wanted.create_bucket else None
    if region is None:
        if wanted.create_bucket:
            return []
        raise UsageError(f"there is no bucket {bucket}; --create-bucket {bucket} makes it")
    if wanted.create_bucket and not _holds(stack):
        raise UsageError(f"the bucket {bucket} is there already: --bucket {bucket} uses it")
    if region != wanted.region:
        return [f"the bucket {bucket} is in {region}: machines in {wanted.region} pay for transfer"]
    return []


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


def _bucket_step(wanted: SetupRequest, bucket: str) -> SetupStep:
    parameters = {
        "Bucket": bucket,
        "KmsKeyArn": wanted.kms_key or "",
        "Versioning": "yes" if wanted.versioning else "no",
    }
    return _step(bucket_stack(bucket), wanted.region, iam.BUCKET, parameters)


def _step(
    stack: str, region: str, name: str, parameters: dict[str, str], there: Stack | None = None
) -> SetupStep:
    stacks, template = Stacks(region), iam.template(name)
    there = there or stacks.find(stack)
    if name == iam.BUCKET and there is not None:
        # Said once, at its making; another setup doesn't take it back.
        parameters = {**parameters, **{k: v for k, v in there.parameters.items() if v == "yes"}}
    same = there is not None and stacks.is_as(there, template, parameters)
    told = {
        "bucket": parameters.get("Bucket", ""),
        "results": ", ".join(
            f"s3://{arn.partition(':::')[2]}" for arn in parameters.get("ResultArns", "").split(",")
        ),
        "secrets": "; reads the secrets that were named" if parameters.get("SecretArns") else "",
        "shell": " or in a shell" if parameters.get("AllowShell") == "yes" else "",
    }
    words = [text.format(**told) for text in WORDS[name].values()]
    return SetupStep(stack, region, template, parameters, words, there is not None, same)


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
