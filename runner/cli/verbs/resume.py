"""Resume a queue on another EC2 instance, or by another coordinator on AWS Batch, from what is
stored in its bucket.

An old machine is ended first, with its spot request. Options that aren't given are the launch's.
"""

from __future__ import annotations

import argparse
import os

from runner.cli import options
from runner.cli.show import machine_queues
from runner.cli.verbs import launch
from runner.errors import ExitCode, UsageError
from runner.targets.batch.local_names import launched_here


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "queue_id", metavar="QUEUE", help="the queue; on AWS Batch its id or s3://BUCKET/PREFIX"
    )
    parser.add_argument(
        "--bucket",
        metavar="BUCKET",
        help="where its results are, if another computer launched it; or s3://BUCKET/PREFIX",
    )
    parser.add_argument(
        "--batch-queue",
        metavar="FILE",
        help="its corrected document (default: the document as it was)",
    )
    options.add_sets(parser)
    machine_queues.add_flag(parser)
    options.add_mending(parser.add_argument_group("a queue that has failed, or a corrected one"))
    launch.configure_machine(parser)
    options.add_batch_launch(parser)
    parser.add_argument("--yes", action="store_true", help="don't ask")
    parser.add_argument(
        "--on-demand",
        action="store_true",
        help="launch an on-demand instance, even if the first was spot",
    )


def execute(arguments: argparse.Namespace) -> int:
    if is_on_batch(arguments.queue_id, arguments.target):
        from runner.cli.launching.batch_launch import resume_on_batch

        return resume_on_batch(arguments)
    options.check_no_batch_launch(arguments)
    if arguments.on_demand and (arguments.spot or arguments.fallback_on_demand):
        raise UsageError("--on-demand: is not for --spot or --fallback-on-demand")
    arguments.queue = arguments.queue_id
    options.queue(arguments)
    from runner.cli.launching.resume import prepared
    from runner.targets.ec2.launch.local_launches import Launches

    launches = Launches.of_user(os.environ)
    resuming = prepared(arguments, launches)
    done = resuming.run()
    if done is None or not arguments.wait:
        return ExitCode.DONE
    from runner.cli.launching.wait import wait

    return wait(done.launch, resuming.say)


def is_on_batch(word: str, target: str | None) -> bool:
    """Whether a queue on AWS Batch is meant: by the flag, by its address, or by our own record."""
    return target is not None or word.lower().startswith("s3://") or launched_here(word)
