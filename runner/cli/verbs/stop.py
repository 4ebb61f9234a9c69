"""Interrupt the running jobs and stop the service; its next start resumes them."""

from __future__ import annotations

import argparse
import json
import sys

from runner.cli import options
from runner.cli.connect import connection
from runner.cli.show.text import clean
from runner.errors import ExitCode


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--detach", action="store_true", help="leave the jobs running: the next start adopts them"
    )
    parser.add_argument(
        "--queue",
        metavar="ID",
        help="stop the process that works on this queue (default: the daemon, if any)",
    )
    options.add_json(parser)
    options.add_on(parser)
    options.add_folders(parser)


def execute(arguments: argparse.Namespace) -> int:
    with connection(arguments) as there:
        stopped = there.stop(detach=arguments.detach, say=_say)
    print(json.dumps(stopped.data) if arguments.json else stopped.told)
    return ExitCode.DONE


def _say(line: str) -> None:
    print(f"runner stop: {clean(line)}", file=sys.stderr)
