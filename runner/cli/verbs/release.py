"""Let jobs start that the document holds (`"hold": true`) and whose turn it is."""

from __future__ import annotations

import argparse

from runner.cli.show import job_selection


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "jobs", metavar="JOB", nargs="+", help="these jobs, by id or pattern (align.*)"
    )
    parser.set_defaults(all=False)
    job_selection.configure(parser)


def execute(arguments: argparse.Namespace) -> int:
    return job_selection.on_jobs("release", arguments, needs_all=False)
