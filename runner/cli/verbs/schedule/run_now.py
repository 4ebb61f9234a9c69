"""Launch one machine of a schedule now, as a firing does, with your own rights."""

from __future__ import annotations

import argparse

from runner.cli.scheduling.changes import add_schedule, run_now


def configure(parser: argparse.ArgumentParser) -> None:
    add_schedule(parser)


def execute(arguments: argparse.Namespace) -> int:
    return run_now(arguments)
