"""Cancel a queue, or some of its jobs: SIGTERM, then SIGKILL after the job's term_grace."""

from __future__ import annotations

import argparse

from runner.cli.show import job_selection


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "jobs", metavar="JOB", nargs="*", help="only these jobs, by id or pattern (align.*)"
    )
    parser.add_argument("--all", action="store_true", help="the whole queue")
    job_selection.configure(parser)


def execute(arguments: argparse.Namespace) -> int:
    return job_selection.on_jobs("cancel", arguments, needs_all=True)
