"""End a pause: the schedule fires again from its next time on."""

from __future__ import annotations

import argparse

from runner.cli.scheduling.changes import add_schedule, set_enabled


def configure(parser: argparse.ArgumentParser) -> None:
    add_schedule(parser)


def execute(arguments: argparse.Namespace) -> int:
    return set_enabled(arguments, enabled=True)
