"""Show a schedule: what it launches, its next five times, and what came of its last firings."""

from __future__ import annotations

import argparse

from runner.cli.scheduling.changes import add_schedule


def configure(parser: argparse.ArgumentParser) -> None:
    add_schedule(parser)


def execute(arguments: argparse.Namespace) -> int:
    from runner.cli.scheduling.looks import show

    return show(arguments)
