"""What `runner setup` makes in an account: a plan of stacks, and the carrying out of it.

The permissions are one stack for all regions (IAM is), in the region where they were first made;
the documents are one stack a region, and so is each bucket. Names of buckets, prefixes and secrets
are only ever added: what is there keeps its rights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from runner.aws.clients import make_client
from runner.aws.errors import calling
from runner.aws.scheduler import ROLE
from runner.aws.stacks import Stack, Stacks
from runner.errors import UsageError
from runner.targets.ec2 import names
from runner.targets.ec2.account import iam, leftovers
from runner.targets.ec2.account.stack_plans import (
    BUCKET_WORDS,
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

PERMISSIONS_STACK = "runner-permissions"
DOCUMENTS_STACK = "runner-documents"
SCHEDULE_PERMISSIONS_STACK = "runner-schedule-permissions"
SCHEDULES_STACK = "runner-schedules"

DEFAULT_PREFIX = "queues"

WORDS: Mapping[str, Mapping[str, str]] = {
    iam.BUCKET: {"Store": BUCKET_WORDS},
    iam.PERMISSIONS: {
        "Role": "role runner-instance, for the machines: reads and writes {results}; reads "
        "what launches have shipped, and writes how boots went; cancels spot requests that "
        "runner has tagged; terminates itself; is reached by SSM{secrets}{notices}",
        "Notices": "role runner-notices, for EventBridge Scheduler, if topics or buses were named: "
        "tells them of a machine that died",
        "Profile": "instance profile runner-instance, which gives that role to a machine",
        "Launch": "policy runner-launch, for people: launch machines that are tagged as "
        "runner's, ask them over SSM{shell}, end them; read and write the same places{fleet}",
        "Look": "policy runner-look, for people: see machines, queues and results; no more",
    },
    iam.DOCUMENTS: {
        "Look": "SSM document Runner-Look: asks a machine how its queues stand",
        "Act": "SSM document Runner-Act: cancel, retry, pause, submit",
    },
    iam.SCHEDULE_PERMISSIONS: {
        "SchedulerRole": "role runner-scheduler, for EventBridge Scheduler: launches machines that "
        "are tagged as runner's and have the role runner-instance; writes to the queue below",
        "Schedule": "policy runner-schedule, for people, beside runner-launch: make, change and "
        "delete schedules of the group runner",
    },
    iam.SCHEDULES: {
        "Group": "schedule group runner: `runner schedule` knows no others",
        "DeadLetters": "queue runner-schedules: firings that came to nothing, for 14 days",
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
    notices: Sequence[str] = ()
    kms_key: str | None = None
    shell: bool | None = None
    versioning: bool = False
    schedules: bool = False
    fleet: bool = False


_INSTEAD = ", or give another with `runner launch --iam-role`"


def home_of_role() -> str | None:
    """The region whose stack made the role; None if there is no role. Raises UsageError for a role
    of that name that isn't ours, AwsError."""
    return home_region(names.PROFILE, _INSTEAD)


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
    home = home_of_role() or wanted.region
    steps: list[SetupStep] = []
    notes: list[str] = []
    there = Stacks(home).find(PERMISSIONS_STACK)
    if wanted.bucket is None and there is None:
        raise UsageError("which bucket is for the results? --bucket NAME, or --create-bucket NAME")
    if wanted.bucket is not None:
        bucket = (wanted.bucket, wanted.region, wanted.create_bucket)
        steps, notes = bucket_steps(BucketRequest(*bucket, wanted.kms_key, wanted.versioning))
    parameters = permissions(there.parameters if there else {}, wanted, partition)
    steps.append(_step(PERMISSIONS_STACK, home, iam.PERMISSIONS, parameters, there))
    documents = Stacks(wanted.region).find(DOCUMENTS_STACK)
    steps.append(_step(DOCUMENTS_STACK, wanted.region, iam.DOCUMENTS, {}, documents))
    left = [] if holds(there) else leftovers.of_permissions(str(caller["Account"]), partition)
    leftovers.refuse(left + ([] if holds(documents) else leftovers.of_documents(wanted.region)))
    if wanted.schedules:
        steps += _schedule_steps(wanted.region)
    if home != wanted.region:
        notes.append(f"role and policies are those that were made from {home}; IAM has no regions")
    return SetupPlan(str(caller["Account"]), partition, wanted.region, steps, notes)


def _schedule_steps(region: str) -> list[SetupStep]:
    """What schedules need besides. Raises UsageError for a role of that name that isn't ours,
    AwsError."""
    home = home_region(ROLE, "") or region
    there = Stacks(home).find(SCHEDULE_PERMISSIONS_STACK)
    here = Stacks(region).find(SCHEDULES_STACK)
    return [
        _step(SCHEDULE_PERMISSIONS_STACK, home, iam.SCHEDULE_PERMISSIONS, {}, there),
        _step(SCHEDULES_STACK, region, iam.SCHEDULES, {}, here),
    ]


def _step(
    stack: str, region: str, name: str, parameters: Mapping[str, str], there: Stack | None
) -> SetupStep:
    told = {
        "results": stores_of(parameters.get("ResultArns", "")),
        "secrets": "; reads the secrets that were named" if parameters.get("SecretArns") else "",
        "notices": "; tells the topics and buses that were named"
        if parameters.get("NoticeArns")
        else "",
        "shell": " or in a shell" if parameters.get("AllowShell") == "yes" else "",
        "fleet": "; uses the task queues of fleets"
        if parameters.get("AllowFleet") == "yes"
        else "",
    }
    words = [text.format(**told) for text in WORDS[name].values()]
    return make_step(stack, region, iam.template(name), parameters, words, there)


def permissions(old: Mapping[str, str], wanted: SetupRequest, partition: str) -> dict[str, str]:
    """The parameters of the permissions: what was there, and what is asked for beside it."""
    prefix = f"{(wanted.prefix or DEFAULT_PREFIX).strip('/')}/*"
    bucket = [f"arn:{partition}:s3:::{wanted.bucket}"] if wanted.bucket else []
    return {
        "BucketArns": added(old.get("BucketArns", ""), bucket),
        "ResultArns": added(old.get("ResultArns", ""), [f"{arn}/{prefix}" for arn in bucket]),
        "ResultPrefixes": added(old.get("ResultPrefixes", ""), [prefix] if bucket else []),
        "SecretArns": added(old.get("SecretArns", ""), wanted.secrets),
        "NoticeArns": added(old.get("NoticeArns", ""), wanted.notices),
        "KmsKeyArn": wanted.kms_key or old.get("KmsKeyArn", ""),
        "AllowShell": old.get("AllowShell", "yes")
        if wanted.shell is None
        else ("yes" if wanted.shell else "no"),
        "AllowFleet": "yes" if wanted.fleet else old.get("AllowFleet", "no"),
    }
