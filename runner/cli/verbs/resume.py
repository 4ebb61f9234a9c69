"""Go on with a queue on another machine in EC2: what was stored of it is taken over there.

The old machine is ended first, with its spot request. What isn't said is as the launch had it.
"""

from __future__ import annotations

import argparse
import os

from runner.cli import options
from runner.cli.show import machine_queues
from runner.cli.verbs import launch
from runner.errors import ExitCode, UsageError


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("queue_id", metavar="QUEUE_ID", help="the queue")
    parser.add_argument(
        "--bucket",
        metavar="BUCKET",
        help="where its results are, if it was launched elsewhere; or s3://BUCKET/PREFIX",
    )
    parser.add_argument(
        "--batch-queue", metavar="FILE", help="its document, corrected (default: as it was)"
    )
    machine_queues.add_flag(parser)
    options.add_mending(parser.add_argument_group("a queue that has failed, or a corrected one"))
    launch.configure_machine(parser)
    parser.add_argument("--yes", action="store_true", help="don't ask, also on a terminal")
    parser.add_argument(
        "--on-demand", action="store_true", help="not spot, whatever the launch had"
    )


def execute(arguments: argparse.Namespace) -> int:
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
