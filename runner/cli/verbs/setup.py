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
from runner.targets.ec2.names import FOLDER, LAUNCH_POLICY

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runner.aws.stacks import Event
    from runner.targets.ec2.account.setup import Done, SetupPlan, SetupRequest, SetupStep

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
"""S3 User Guide, "Bucket naming rules"."""

_PREFIX = re.compile(r"[A-Za-z0-9!_.'()-]+(/[A-Za-z0-9!_.'()-]+)*/?")

_SECRET = re.compile(r"arn:aws[a-z-]*:(ssm|secretsmanager):[a-z0-9*-]+:[0-9]{12}:\S+")
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
        "--kms-key", metavar="ARN", help="a KMS key of your own, for the bucket and the secrets"
    )
    parser.add_argument(
        "--versioning", action="store_true", help="turn on versioning of the new bucket"
    )
    parser.add_argument(
        "--shell", action=argparse.BooleanOptionalAction, default=None,
        help="whether people who launch may open a shell on the machines (default: yes)",
    )  # fmt: skip
    parser.add_argument("--show", action="store_true", help="print the templates, do nothing")
    parser.add_argument("--dry-run", action="store_true", help="print the plan, do nothing")
    parser.add_argument("--yes", action="store_true", help="don't ask")
    options.add_json(parser)


def execute(arguments: argparse.Namespace) -> int:
    _check(arguments)
    if arguments.show:
        return _show()
    from runner.aws.errors import AwsError, ErrorKind

    try:
        return _set_up(arguments)
    except AwsError as error:
        if error.kind is not ErrorKind.DENIED:
            raise
        what = "an administrator of the account does this, once"
        raise RunnerError(f"{error}\n{what}; `runner setup --show` is what to show them") from error


def _set_up(arguments: argparse.Namespace) -> int:
    from runner.targets.ec2.account.setup import carry_out, make_plan

    plan = make_plan(_wanted(arguments))
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
    _report(plan, done, arguments.json)
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
    if arguments.versioning and not arguments.create_bucket:
        raise UsageError("--versioning goes with --create-bucket")
    if arguments.prefix and not (arguments.bucket or arguments.create_bucket):
        raise UsageError("--prefix goes with --bucket or --create-bucket")


def _wanted(arguments: argparse.Namespace) -> SetupRequest:
    from runner.aws.clients import region_of
    from runner.targets.ec2.account.setup import SetupRequest

    return SetupRequest(
        region=region_of(arguments.region),
        bucket=arguments.bucket or arguments.create_bucket,
        create_bucket=arguments.create_bucket is not None,
        prefix=arguments.prefix,
        secrets=arguments.secret,
        kms_key=arguments.kms_key,
        shell=arguments.shell,
        versioning=arguments.versioning,
    )


def _show() -> int:
    from runner.targets.ec2.account import iam

    for name in iam.TEMPLATES:
        print(f"--- # {name}.yaml\n{iam.template(name)}", end="")
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


def _report(plan: SetupPlan, done: Sequence[Done], as_json: bool) -> None:
    if as_json:
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
    print("\nFor people who launch (administrators need no policy):", file=sys.stderr)
    attach = "aws iam attach-user-policy --user-name NAME --policy-arn"
    print(f"  {attach} {plan.policy(LAUNCH_POLICY)}", file=sys.stderr)
    print("`runner doctor` says whether all is well", file=sys.stderr)
