"""Run failed, skipped and cancelled jobs again, with a fresh budget of attempts."""

from __future__ import annotations

import argparse

from runner.cli import acting


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("jobs", metavar="JOB", nargs="*", help="only these jobs")
    parser.add_argument("--all", action="store_true", help="the whole queue")
    acting.configure(parser)


def execute(arguments: argparse.Namespace) -> int:
    return acting.on_jobs("retry", arguments, needs_all=False)
