"""Check the AWS account before a launch, or a machine with runner where it is asked as root there.

With --batch: what queues on AWS Batch need.

Exit code 1 if any check fails; a warning is no failure.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from runner.cli import options
from runner.errors import ExitCode, UsageError
from runner.model.messages import quoted

if TYPE_CHECKING:
    from runner.targets.ec2.account.doctor.findings import Finding

_TYPE = re.compile(r"[a-z][a-z0-9-]*\.[a-z0-9-]+")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--region", metavar="R", help="the region (default: that of your AWS settings)"
    )
    parser.add_argument("--bucket", metavar="B", help="the bucket for results")
    parser.add_argument("--instance-type", metavar="T", help="what to launch (default: t3.medium)")
    parser.add_argument(
        "--batch", action="store_true", help="look at what queues on AWS Batch need instead"
    )
    parser.add_argument(
        "--job-queue",
        metavar="Q",
        help="with --batch: the job queue (default: that of the settings, else runner)",
    )
    parser.add_argument("--image", metavar="I", help="with --batch: the image of jobs")
    options.add_json(parser)
    options.add_folders(parser)


def execute(arguments: argparse.Namespace) -> int:
    from runner.targets.ec2.account.doctor.findings import Grade, describe, format_findings

    kind = arguments.instance_type
    if kind is not None and not _TYPE.fullmatch(kind):
        raise UsageError(f"--instance-type: {quoted(kind)} is no type such as g5.xlarge")
    if not arguments.batch:
        for flag in ("job_queue", "image"):
            if getattr(arguments, flag) is not None:
                raise UsageError(f"--{flag.replace('_', '-')} goes with --batch")
    elif kind is not None:
        raise UsageError("--instance-type is about EC2: a compute environment names its own")
    found = _examine(arguments)
    if arguments.json:
        print(json.dumps([describe(each) for each in found]))
    else:
        print("\n".join(format_findings(found)))
    failed = any(each.grade is Grade.FAIL for each in found)
    return ExitCode.ERROR if failed else ExitCode.DONE


def _examine(arguments: argparse.Namespace) -> Sequence[Finding]:
    from runner.targets.ec2.account.doctor import machine

    if arguments.batch:
        return _examine_batch(arguments)
    if machine.is_one():
        return machine.examine_machine(lambda: options.settings(arguments))
    from runner.aws.clients import region_of
    from runner.targets.ec2.account.doctor.laptop import examine_laptop

    return examine_laptop(region_of(arguments.region), arguments.bucket, arguments.instance_type)


def _examine_batch(arguments: argparse.Namespace) -> Sequence[Finding]:
    from runner.aws.clients import region_of
    from runner.targets.batch.account.doctor.examination import examine_batch

    given = options.settings(arguments).batch
    flags = {name: getattr(arguments, name) for name in ("job_queue", "bucket", "image")}
    given = replace(given, **{name: value for name, value in flags.items() if value is not None})
    return examine_batch(region_of(arguments.region or given.region), given)
