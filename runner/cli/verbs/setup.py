"""Make what machines and people need in an AWS account: a role, policies, documents, a bucket.

Once per account and region; a second call changes only what is outdated. It costs nothing except
what the bucket holds.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from typing import TYPE_CHECKING, Any

from runner.cli import options
from runner.cli.show.text import clean
from runner.errors import ExitCode, RunnerError, UsageError
from runner.model.messages import quoted
from runner.targets.batch.account.names import COORDINATOR_ROLE, EXECUTION_ROLE, JOB_QUEUE, JOB_ROLE
from runner.targets.batch.account.names import POLICY as BATCH_POLICY
from runner.targets.ec2.names import FOLDER, LAUNCH_POLICY, SCHEDULE_POLICY

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runner.aws.stacks import Event
    from runner.targets.batch.account.setup import BatchSetupRequest
    from runner.targets.ec2.account.setup import SetupRequest
    from runner.targets.ec2.account.stack_plans import Done, SetupPlan, SetupStep

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
"""S3 User Guide, "Bucket naming rules"."""

_PREFIX = re.compile(r"[A-Za-z0-9!_.'()-]+(/[A-Za-z0-9!_.'()-]+)*/?")

_JOB_QUEUE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{2,110}")
"""With its kind it is the name of a compute environment, of at most 128 characters (Batch API
reference, CreateComputeEnvironment)."""

_DEFINITION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}\*?")

_REPOSITORY = re.compile(r"arn:aws[a-z-]*:ecr:[a-z0-9*-]+:[0-9]{12}:repository/[a-z0-9._/-]+\*?")

COMPUTE = ("fargate", "fargate-spot", "ec2", "spot")

_SECRET = re.compile(r"arn:aws[a-z-]*:(ssm|secretsmanager):[a-z0-9*-]+:[0-9]{12}:\S+")
_NOTICE = re.compile(
    r"arn:aws[a-z-]*:(sns:[a-z0-9*-]+:[0-9]{12}:|events:[a-z0-9*-]+:[0-9]{12}:event-bus/)[^\s,]+"
)
_KEY = re.compile(r"arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/\S+")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--region", metavar="R", help="the region (default: that of your AWS settings)"
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--bucket", metavar="NAME", help="an existing bucket for results")
    which.add_argument("--create-bucket", metavar="NAME", help="make a bucket for results")
    parser.add_argument("--prefix", metavar="P", help="queues write below it (default: queues)")
    parser.add_argument(
        "--secret", metavar="ARN", action="append", default=[],
        help="an SSM parameter or a secret that jobs may read; may be repeated, may end with *",
    )  # fmt: skip
    parser.add_argument(
        "--notify", metavar="ARN", action="append", default=[],
        help="an SNS topic or an event bus that queues may tell; may be repeated, may end with *",
    )  # fmt: skip
    parser.add_argument(
        "--kms-key", metavar="ARN", help="a KMS key of your own, for the bucket and the secrets"
    )
    parser.add_argument(
        "--versioning", action="store_true", help="turn on versioning of the new bucket"
    )
    parser.add_argument(
        "--shell", action=argparse.BooleanOptionalAction, default=None,
        help="whether people who launch may open a shell on the machines (default: yes)",
    )  # fmt: skip
    parser.add_argument(
        "--schedules", action="store_true", help="also make what `runner schedule` needs"
    )
    parser.add_argument(
        "--fleet", action="store_true",
        help="machines may also work for fleets: the task queues bec_* in SQS",
    )  # fmt: skip
    parser.add_argument(
        "--batch", action="store_true", help="make what queues on AWS Batch need instead"
    )
    batch = parser.add_argument_group("with --batch")
    batch.add_argument(
        "--compute", choices=COMPUTE, help="also make a compute environment and its job queue"
    )
    batch.add_argument(
        "--job-queue", metavar="NAME", help="the name of that job queue (default: runner)"
    )
    batch.add_argument(
        "--max-vcpus", metavar="N", type=int,
        help="the most vCPUs that it uses at once (default: 64)",
    )  # fmt: skip
    batch.add_argument(
        "--subnet", metavar="ID", action="append", default=[],
        help="where its jobs run; may be repeated (default: all of the default VPC)",
    )  # fmt: skip
    batch.add_argument(
        "--definition", metavar="NAME", action="append", default=[],
        help="job definitions that people may register and submit, beside runner's own; may be "
        "repeated, may end with *",
    )  # fmt: skip
    batch.add_argument(
        "--repository", metavar="ARN", action="append", default=[],
        help="an ECR repository of another account that jobs have images from; may be repeated, "
        "may end with *",
    )  # fmt: skip
    parser.add_argument("--show", action="store_true", help="print the templates, do nothing")
    parser.add_argument("--dry-run", action="store_true", help="print the plan, do nothing")
    parser.add_argument("--yes", action="store_true", help="don't ask")
    options.add_json(parser)


def execute(arguments: argparse.Namespace) -> int:
    _check(arguments)
    if arguments.show:
        return _show(arguments.batch)
    from runner.aws.errors import AwsError, ErrorKind

    try:
        return _set_up(arguments)
    except AwsError as error:
        if error.kind is not ErrorKind.DENIED:
            raise
        what = "an administrator of the account does this, once"
        raise RunnerError(f"{error}\n{what}; `runner setup --show` is what to show them") from error


def _set_up(arguments: argparse.Namespace) -> int:
    from runner.targets.ec2.account.stack_plans import carry_out

    plan = _plan(arguments)
    if arguments.dry_run:
        print(json.dumps(_planned(plan)) if arguments.json else _told(plan))
        return ExitCode.DONE
    if not plan.nothing and not _agreed(plan, arguments.yes):
        return ExitCode.DONE
    at_work = ""

    def tell(step: SetupStep, event: Event) -> None:
        nonlocal at_work
        at_work = f"{step.stack} in {step.region}"
        why = f": {event.why}" if event.why and event.status.endswith("_FAILED") else ""
        line = f"{step.stack}: {event.resource} {event.status}{why}"
        print(f"{time.strftime('%H:%M:%S')} {clean(line)}", file=sys.stderr)

    try:
        done = carry_out(plan, tell)
    except KeyboardInterrupt:
        if at_work:
            told = f"CloudFormation goes on with {at_work}; the same command looks again"
            print(f"runner setup: {told}", file=sys.stderr)
        raise
    _report(plan, done, arguments)
    return ExitCode.DONE


def _check(arguments: argparse.Namespace) -> None:
    for flag, pattern, what in (
        ("bucket", _BUCKET, "the name of a bucket"),
        ("create_bucket", _BUCKET, "the name of a bucket"),
        ("prefix", _PREFIX, "a prefix such as queues or team-a/queues"),
        ("kms_key", _KEY, "the ARN of a KMS key"),
    ):
        value = getattr(arguments, flag)
        if value is not None and not pattern.fullmatch(value):
            raise UsageError(f"--{flag.replace('_', '-')}: {quoted(value)} isn't {what}")
    if arguments.prefix and arguments.prefix.partition("/")[0] == FOLDER:
        raise UsageError(
            f"--prefix: {quoted(arguments.prefix)}: below {FOLDER}/ is what launches go by, and "
            "jobs must not be able to write it; name another prefix"
        )
    for secret in arguments.secret:
        if not _SECRET.fullmatch(secret) or "," in secret:
            what = "the ARN of an SSM parameter or a secret"
            raise UsageError(f"--secret: {quoted(secret)} isn't {what}")
    for arn in arguments.notify:
        if not _NOTICE.fullmatch(arn):
            raise UsageError(
                f"--notify: {quoted(arn)} isn't the ARN of an SNS topic or an event bus"
            )
    if arguments.job_queue is not None and not _JOB_QUEUE.fullmatch(arguments.job_queue):
        raise UsageError(f"--job-queue: {quoted(arguments.job_queue)} isn't the name of a queue")
    for arn in arguments.repository:
        if not _REPOSITORY.fullmatch(arn):
            raise UsageError(f"--repository: {quoted(arn)} isn't the ARN of an ECR repository")
    for name in arguments.definition:
        if not _DEFINITION.fullmatch(name):
            raise UsageError(f"--definition: {quoted(name)} isn't the name of a job definition")
    _check_company(arguments)


def _check_company(arguments: argparse.Namespace) -> None:
    for flag in ("compute", "definition", "repository"):
        if getattr(arguments, flag) and not arguments.batch:
            raise UsageError(f"--{flag} goes with --batch")
    for flag in ("job_queue", "max_vcpus", "subnet"):
        if getattr(arguments, flag) not in (None, []) and not arguments.compute:
            raise UsageError(f"--{flag.replace('_', '-')} goes with --batch --compute")
    if arguments.max_vcpus is not None and arguments.max_vcpus < 1:
        raise UsageError(f"--max-vcpus: {arguments.max_vcpus} is no number of vCPUs")
    if arguments.batch and arguments.schedules:
        raise UsageError("--schedules is about machines on EC2: not with --batch")
    if arguments.batch and arguments.fleet:
        raise UsageError("--fleet is about machines on EC2: not with --batch")
    if arguments.batch and arguments.shell is not None:
        raise UsageError("--shell is about machines on EC2: on Batch there are none to open one on")
    if arguments.versioning and not arguments.create_bucket:
        raise UsageError("--versioning goes with --create-bucket")
    if arguments.prefix and not (arguments.bucket or arguments.create_bucket):
        raise UsageError("--prefix goes with --bucket or --create-bucket")


def _plan(arguments: argparse.Namespace) -> SetupPlan:
    from runner.targets.batch.account import setup as of_batch
    from runner.targets.ec2.account import setup as of_ec2

    if arguments.batch:
        return of_batch.make_plan(_wanted_of_batch(arguments))
    return of_ec2.make_plan(_wanted(arguments))


def _wanted_of_batch(arguments: argparse.Namespace) -> BatchSetupRequest:
    from runner.aws.clients import region_of
    from runner.targets.batch.account import setup

    compute = None
    if arguments.compute is not None:
        compute = setup.ComputeRequest(
            setup.KINDS[arguments.compute],
            arguments.job_queue or JOB_QUEUE,
            arguments.max_vcpus or setup.DEFAULT_VCPUS,
            arguments.subnet,
        )
    return setup.BatchSetupRequest(
        region=region_of(arguments.region),
        bucket=arguments.bucket or arguments.create_bucket,
        create_bucket=arguments.create_bucket is not None,
        prefix=arguments.prefix,
        secrets=arguments.secret,
        notices=arguments.notify,
        kms_key=arguments.kms_key,
        versioning=arguments.versioning,
        definitions=arguments.definition,
        repositories=arguments.repository,
        compute=compute,
    )


def _wanted(arguments: argparse.Namespace) -> SetupRequest:
    from runner.aws.clients import region_of
    from runner.targets.ec2.account.setup import SetupRequest

    return SetupRequest(
        region=region_of(arguments.region),
        bucket=arguments.bucket or arguments.create_bucket,
        create_bucket=arguments.create_bucket is not None,
        prefix=arguments.prefix,
        secrets=arguments.secret,
        notices=arguments.notify,
        kms_key=arguments.kms_key,
        shell=arguments.shell,
        versioning=arguments.versioning,
        schedules=arguments.schedules,
        fleet=arguments.fleet,
    )


def _show(batch: bool) -> int:
    from runner.targets.batch.account import iam as of_batch
    from runner.targets.ec2.account import iam

    shown = {name: iam.template(name) for name in iam.TEMPLATES}
    if batch:
        shown = {iam.BUCKET: shown[iam.BUCKET]}
        shown |= {f"batch-{name}": of_batch.template(name) for name in of_batch.TEMPLATES}
    for name, text in shown.items():
        print(f"--- # {name}.yaml\n{text}", end="")
    return ExitCode.DONE


def _agreed(plan: SetupPlan, yes: bool) -> bool:
    print(_told(plan), file=sys.stderr)
    if yes:
        return True
    if not sys.stdin.isatty():
        raise UsageError(
            "stdin is no terminal, so nothing can be confirmed: add --yes, or --dry-run to look"
        )
    print("Make it? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() in ("y", "yes"):
        return True
    print("nothing was made", file=sys.stderr)
    return False


def _told(plan: SetupPlan) -> str:
    lines = [f"account {plan.account}, region {plan.region}"]
    for step in plan.steps:
        state = "nothing to do" if step.same else "to be changed" if step.there else "to be made"
        lines.append(f"stack {step.stack} in {step.region}: {state}")
        lines += [f"  {clean(words)}" for words in step.words if not step.same]
    lines += [f"note: {clean(note)}" for note in plan.notes]
    return "\n".join(lines)


def _planned(plan: SetupPlan) -> dict[str, Any]:
    stacks = [
        {
            "stack": step.stack,
            "region": step.region,
            "to_do": "nothing" if step.same else "update" if step.there else "create",
            "parameters": dict(step.parameters),
            "words": list(step.words),
        }
        for step in plan.steps
    ]
    notes = list(plan.notes)
    return {"account": plan.account, "region": plan.region, "stacks": stacks, "notes": notes}


def _report(plan: SetupPlan, done: Sequence[Done], arguments: argparse.Namespace) -> None:
    if arguments.json:
        stacks = [
            {
                "stack": each.stack,
                "region": each.region,
                "result": each.result,
                "outputs": dict(each.outputs),
            }
            for each in done
        ]
        print(json.dumps({"account": plan.account, "region": plan.region, "stacks": stacks}))
        return
    for each in done:
        print(f"{each.stack} in {each.region}: {each.result}")
        for name, value in each.outputs.items():
            print(f"  {name}: {clean(value)}")
    if plan.nothing:
        print("nothing to do")
        return
    who, policy, doctor = "who launch", LAUNCH_POLICY, "runner doctor"
    if arguments.batch:
        who, policy, doctor = "who run queues on Batch", BATCH_POLICY, "runner doctor --batch"
    print(f"\nFor people {who} (administrators need no policy):", file=sys.stderr)
    attach = "aws iam attach-user-policy --user-name NAME --policy-arn"
    print(f"  {attach} {plan.policy(policy)}", file=sys.stderr)
    if arguments.schedules:
        print(f"  {attach} {plan.policy(SCHEDULE_POLICY)}", file=sys.stderr)
    if arguments.batch:
        print("\n".join(_settings(plan, arguments)), file=sys.stderr)
    print(f"`{doctor}` says whether all is well", file=sys.stderr)


def _settings(plan: SetupPlan, arguments: argparse.Namespace) -> list[str]:
    """What the settings are told, so that queues use what was made."""
    told = {
        "region": plan.region,
        "bucket": arguments.bucket or arguments.create_bucket,
        "job_queue": (arguments.job_queue or JOB_QUEUE) if arguments.compute else None,
        "job_role": plan.role(JOB_ROLE),
        "execution_role": plan.role(EXECUTION_ROLE),
        "coordinator_role": plan.role(COORDINATOR_ROLE),
    }
    lines = [f'  {name} = "{value}"' for name, value in told.items() if value]
    return ["For the settings (~/.config/runner/runner.toml):", "  [batch]", *lines]
