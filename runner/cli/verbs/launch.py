"""Launch an EC2 instance that runs a queue and then ends itself. It doesn't ask: `--dry-run` shows
what would be launched, and what it costs."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.cli import options
from runner.cli.sub_verbs import LOGIN
from runner.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from runner.model.document import QueueSpec
    from runner.targets.ec2.launch.launch_request import LaunchRequest


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--batch-queue", metavar="FILE", required=True, help="the queue document")
    parser.add_argument(
        "--instance-id",
        metavar="ID",
        help="submit the queue to this instance, which runs already",
    )
    options.add_sets(parser)
    options.add_mending(parser.add_argument_group("a queue that exists already"))
    configure_machine(parser)
    options.add_batch_launch(parser)
    options.add_fresh_on_batch(parser)
    parser.add_argument("--yes", action="store_true", help="accepted and ignored: it doesn't ask")


def configure_machine(parser: argparse.ArgumentParser) -> None:
    """All that a machine can be launched with; `resume` takes it too."""
    _configure_machine(parser.add_argument_group("the machine"))
    _configure_place(parser.add_argument_group("network and access"))
    _configure_end(parser.add_argument_group("the machine's end"))
    parser.add_argument(
        "--workdir",
        metavar="DIR",
        help="ship this folder: what git tracks or doesn't ignore, except files that hold "
        "secrets by their names (--dry-run tells)",
    )
    parser.add_argument(
        "--include",
        metavar="FILE",
        action="append",
        help="ship this file of the work folder too; may be repeated",
    )
    parser.add_argument(
        "--bundle", metavar="FILE|s3://…", help="install this bundle, not this runner's own"
    )
    parser.add_argument("--wait", action="store_true", help="wait for the queue; Ctrl-C detaches")
    parser.add_argument("--dry-run", action="store_true", help="show the plan, launch nothing")
    options.add_json(parser)


def _configure_machine(group: Any) -> None:
    group.add_argument(
        "--instance-type",
        metavar="T[,T2…]",
        help="instance types, in the order in which they are tried",
    )
    group.add_argument(
        "--spot", action="store_true", help="a spot instance: cheaper; EC2 may stop it for a while"
    )
    group.add_argument(
        "--fallback-on-demand",
        action="store_true",
        help="use on-demand capacity if there is no spot capacity",
    )
    group.add_argument("--disk-size", metavar="GiB", help="size of the root volume (default: 30)")
    group.add_argument(
        "--ami", metavar="ID", help="the image (default: Amazon Linux 2023, or its DLAMI)"
    )
    group.add_argument("--job-user", metavar="NAME", help="the user that jobs run as")
    group.add_argument("--tag", metavar="KEY=VALUE", action="append", help="a tag; may be repeated")


def _configure_place(group: Any) -> None:
    group.add_argument(
        "--region", metavar="REGION", help="the region (default: that of your AWS settings)"
    )
    group.add_argument("--subnet", metavar="ID[,ID…]", help="subnets (default: the default VPC's)")
    group.add_argument(
        "--security-group", metavar="ID[,ID…]", help="security groups (default: the VPC's default)"
    )
    group.add_argument(
        "--no-public-ip",
        action="store_true",
        help="no public address, even if the subnet gives one",
    )
    group.add_argument(
        "--iam-role", metavar="NAME|ARN", help="an instance profile (default: `runner setup`'s)"
    )
    group.add_argument("--key-name", metavar="NAME", help="a key pair, for ssh")


def _configure_end(group: Any) -> None:
    group.add_argument(
        "--notify-if-lost",
        action="store_true",
        help="tell the topics and buses of `notify`, by EventBridge Scheduler after the machine's "
        "lifetime, if it died before its queue ended",
    )
    group.add_argument(
        "--on-complete",
        choices=("terminate", "stop", "none"),
        help="what happens to the machine when the queue has ended (default: terminate)",
    )
    group.add_argument(
        "--keep-on-failure", metavar="DURATION", help="how long to keep the machine after a failure"
    )
    group.add_argument(
        "--max-lifetime",
        metavar="DURATION",
        help="end the machine after this time in any case (default: 2 × global_timeout + 1h, at "
        "most a week or what the queue may take)",
    )


def execute(arguments: argparse.Namespace) -> int:
    from runner.aws.errors import AwsError, ErrorKind

    if arguments.target == options.BATCH:
        from runner.cli.launching.batch_launch import launch_on_batch

        return launch_on_batch(arguments)
    options.check_no_batch_launch(arguments)
    if arguments.instance_id is not None:
        from runner.cli.launching.onto_machine import launch_onto

        return launch_onto(arguments)
    queue, wanted = read_launch(arguments)
    from runner.cli.launching.launch import Launching
    from runner.targets.ec2.launch.local_launches import Launches

    launches = Launches.of_user(os.environ)
    launching = Launching(arguments, queue, wanted, launches)
    try:
        done = launching.run()
    except AwsError as error:
        if error.kind in (ErrorKind.NO_CREDENTIALS, ErrorKind.EXPIRED):
            raise AwsError(error.kind, error.code, f"{error}\n{LOGIN}") from error
        raise
    if done is None or not arguments.wait:
        return ExitCode.DONE
    from runner.cli.launching.wait import wait

    return wait(done.launch, launching.say)


def read_launch(arguments: argparse.Namespace) -> tuple[QueueSpec, LaunchRequest]:
    """The document and the flags. Raises UsageError with all that is wrong with both at once."""
    from runner.core.lost_notices import told_if_lost
    from runner.targets.ec2.launch.launch_request import launch_request_of

    errors: list[str] = []
    queue = None
    try:
        queue = options.read(arguments, Path(arguments.batch_queue))
        errors += _unfit(queue)
    except UsageError as error:
        errors.append(str(error))
    if arguments.workdir is not None and not Path(arguments.workdir).is_dir():
        errors.append(f"--workdir: {arguments.workdir} is not a folder")
    try:
        wanted = launch_request_of(vars(arguments), queue.global_timeout if queue else 1.0)
    except UsageError as error:
        errors.append(str(error))
    if queue is not None and arguments.notify_if_lost and not told_if_lost(queue):
        errors.append(
            "--notify-if-lost: `notify` of the document names no SNS topic and no event bus, and "
            "these are all that can be told without a machine"
        )
    if errors:
        raise UsageError("\n".join(errors))
    assert queue is not None
    return queue, wanted


def _unfit(queue: QueueSpec) -> list[str]:
    from runner.service.runs_here import refused

    errors = refused(queue)
    if queue.result_s3_bucket is None:
        errors.append(
            'result_s3_bucket: is missing; a launch needs a bucket of yours, "result_s3_bucket": '
            '"my-bucket": results, logs and state go there, and the machine is fed from there'
        )
    return errors
