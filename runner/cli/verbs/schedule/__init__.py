"""Schedules: EventBridge Scheduler launches a machine for a queue at set times, and nothing of
runner's has to be up for that. On a laptop a systemd timer does it (`create --here`)."""

from __future__ import annotations

import argparse

from runner.cli.sub_verbs import add_sub_verbs, execute_sub_verb

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
    add_sub_verbs(parser, __name__, SUBVERBS)


def execute(arguments: argparse.Namespace) -> int:
    return execute_sub_verb(arguments, "runner setup --schedules")
