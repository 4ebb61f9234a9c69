"""Hold a machine that would end because its queues have ended. max_lifetime still applies."""

from __future__ import annotations

import argparse
import json

from runner.cli import options
from runner.cli.connect import connection
from runner.cli.show.text import clean
from runner.errors import ExitCode, UsageError
from runner.model.durations import parse_duration


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("duration", nargs="?", metavar="DURATION", help="how long, such as 2h")
    parser.add_argument("--forever", action="store_true", help="until --release")
    parser.add_argument("--release", action="store_true", help="end the hold")
    options.add_json(parser)
    options.add_on(parser)
    options.add_folders(parser)


def execute(arguments: argparse.Namespace) -> int:
    given = [arguments.duration is not None, arguments.forever, arguments.release]
    if sum(given) != 1:
        raise UsageError("give a DURATION such as 2h, or --forever, or --release")
    try:
        seconds = parse_duration(arguments.duration) if arguments.duration is not None else None
    except ValueError as error:
        raise UsageError(f"DURATION: {error}") from None

    with connection(arguments) as there:
        line = there.keep(seconds, release=arguments.release)["machine"]
    if arguments.json:
        print(json.dumps({"machine": line}))
    else:
        print(f"machine: {clean(line)}" if line else "machine: nothing is planned")
    return ExitCode.DONE
