"""Let a schedule fire no more until it is resumed. What is missed meanwhile isn't made up for."""

from __future__ import annotations

import argparse

from runner.cli.scheduling.changes import add_schedule, set_enabled


def configure(parser: argparse.ArgumentParser) -> None:
    add_schedule(parser)


def execute(arguments: argparse.Namespace) -> int:
    return set_enabled(arguments, enabled=False)
