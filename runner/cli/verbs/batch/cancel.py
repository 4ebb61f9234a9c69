"""Cancel jobs of AWS Batch that have not begun. Others go on: `terminate` ends them."""

from __future__ import annotations

import argparse

from runner.cli.verbs.batch import ending


def configure(parser: argparse.ArgumentParser) -> None:
    ending.configure(parser)


def execute(arguments: argparse.Namespace) -> int:
    return ending.end("cancel", arguments)
