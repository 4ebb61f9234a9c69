"""Schedules: EventBridge Scheduler launches a machine for a queue at set times, and nothing of
runner's has to be up for that. On a laptop a systemd timer does it (`create --here`)."""

from __future__ import annotations

import argparse
from importlib import import_module

from runner.cli.parser import Parser
from runner.errors import RunnerError

SUBVERBS = {
    "create": "check all that a launch needs, and make a schedule",
    "ls": "list the schedules, and what came of their last firings",
    "show": "show one schedule, its next five times and its last firings",
    "pause": "let it fire no more until it is resumed",
    "resume": "end a pause",
    "run-now": "launch one machine of it now, by hand",
    "delete": "delete it, and all that it has shipped",
}


def configure(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(
        dest="subverb", metavar="VERB", required=True, parser_class=Parser, title="verbs"
    )
    for name, what in SUBVERBS.items():
        module = import_module(f"runner.cli.verbs.schedule.{name.replace('-', '_')}")
        made = verbs.add_parser(name, help=what, description=module.__doc__)
        module.configure(made)
        made.set_defaults(execute_subverb=module.execute)


def execute(arguments: argparse.Namespace) -> int:
    from runner.aws.errors import AwsError, ErrorKind

    try:
        return int(arguments.execute_subverb(arguments))
    except AwsError as error:
        if error.kind in (ErrorKind.NO_CREDENTIALS, ErrorKind.EXPIRED):
            hint = "`aws sts get-caller-identity` says who you are; `aws configure` helps"
            raise RunnerError(f"{error}\n{hint}") from error
        if error.kind is ErrorKind.DENIED:
            hint = "`runner setup --schedules` makes a policy with the permissions that people need"
            raise RunnerError(f"{error}\n{hint}") from error
        raise
