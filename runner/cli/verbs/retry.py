"""Run failed, skipped and cancelled jobs again, with a fresh budget of attempts."""

from __future__ import annotations

import argparse

from runner.cli.show import job_selection
from runner.errors import UsageError


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "jobs", metavar="JOB", nargs="*", help="only these jobs, by id or pattern (align.*)"
    )
    parser.add_argument("--all", action="store_true", help="the whole queue")
    parser.add_argument("--completed", action="store_true", help="also jobs that have completed")
    parser.add_argument(
        "--with-dependants",
        action="store_true",
        help="also all jobs that depend on them, not only skipped ones and those of run_if",
    )
    job_selection.configure(parser)


def execute(arguments: argparse.Namespace) -> int:
    if (arguments.completed or arguments.with_dependants) and not arguments.jobs:
        if not arguments.all:
            raise UsageError("give the jobs to run again, or --all for the whole queue")
    return job_selection.on_jobs(
        "retry",
        arguments,
        needs_all=False,
        completed=arguments.completed or None,
        dependants=arguments.with_dependants or None,
    )
