"""Make a schedule. FILE is a queue document, or a YAML or JSON file that names one under
`batch_queue` and has flags of `runner launch` as keys; flags stand before it."""

from __future__ import annotations

import argparse

from runner.cli import options
from runner.cli.verbs import launch

OVERLAP = ("allow", "skip")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="a queue document, or a file that names one")
    group = parser.add_argument_group("when")
    group.add_argument(
        "--cron",
        metavar="EXPRESSION",
        help='"0 2 * * *" (minute hour day month weekday), "rate(6 hours)", '
        '"cron(0 2 ? * MON-FRI *)"',
    )
    group.add_argument("--timezone", metavar="ZONE", help="such as America/New_York (default: UTC)")
    group.add_argument(
        "--overlap",
        choices=OVERLAP,
        help="what a firing does while one before it runs: run beside it, or end at once "
        "(default: allow)",
    )
    group.add_argument(
        "--name",
        metavar="NAME",
        help="its name, which its queues' ids begin with (default: the document's queue_id, else "
        "the name of the file)",
    )
    group.add_argument(
        "--here",
        action="store_true",
        help="print a systemd user timer for this computer instead, as a shell script",
    )
    options.add_sets(parser)
    launch.configure_machine(parser)
    parser.add_argument("--yes", action="store_true", help="accepted and ignored: it doesn't ask")


def execute(arguments: argparse.Namespace) -> int:
    from runner.cli.scheduling.schedule_file import with_file

    arguments = with_file(arguments, configure)
    if arguments.here:
        from runner.cli.scheduling.on_this_computer import print_timer

        return print_timer(arguments)
    from runner.cli.scheduling.creation import create

    return create(arguments)
