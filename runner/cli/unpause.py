"""Go on after a pause."""

from __future__ import annotations

import argparse

from runner.cli import acting


def configure(parser: argparse.ArgumentParser) -> None:
    acting.configure(parser)


def execute(arguments: argparse.Namespace) -> int:
    return acting.on_queue("unpause", arguments)
