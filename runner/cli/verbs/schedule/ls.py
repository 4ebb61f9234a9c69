"""List the schedules of a region, and of the last firings whether a machine came, and why not."""

from __future__ import annotations

import argparse

from runner.cli import options


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--region", metavar="R", help="the region (default: that of your AWS settings)"
    )
    parser.add_argument(
        "-n", dest="count", metavar="N", type=int, default=3, help="so many firings (default: 3)"
    )
    options.add_json(parser)


def execute(arguments: argparse.Namespace) -> int:
    from runner.cli.scheduling.looks import list_schedules

    return list_schedules(arguments)
