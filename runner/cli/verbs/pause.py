"""Start no new jobs until `runner unpause`. Running jobs go on."""

from __future__ import annotations

import argparse

from runner.cli.show import job_selection


def configure(parser: argparse.ArgumentParser) -> None:
    job_selection.configure(parser)


def execute(arguments: argparse.Namespace) -> int:
    return job_selection.on_queue("pause", arguments)
