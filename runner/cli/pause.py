"""Start nothing new; what runs goes on. Lasts until `runner unpause`."""

from __future__ import annotations

import argparse

from runner.cli import acting


def configure(parser: argparse.ArgumentParser) -> None:
    acting.configure(parser)


def execute(arguments: argparse.Namespace) -> int:
    return acting.on_queue("pause", arguments)
