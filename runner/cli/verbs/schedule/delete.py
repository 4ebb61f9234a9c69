"""Delete a schedule, what it has shipped, and its dead letters. Machines and results stay."""

from __future__ import annotations

import argparse

from runner.cli.scheduling.changes import add_schedule, delete


def configure(parser: argparse.ArgumentParser) -> None:
    add_schedule(parser)
    parser.add_argument("--yes", action="store_true", help="don't ask")


def execute(arguments: argparse.Namespace) -> int:
    return delete(arguments)
