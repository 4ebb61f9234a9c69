"""``report``: all tasks of a job as one page that opens anywhere."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from runner import __version__
from runner.errors import ExitCode, UsageError
from runner.fleet.cli.fleet_settings import add_database, environment, opened
from runner.fleet.cli.tables import print_json

MOST_TASKS = 200_000
"""That a page holds: some 3 MB, which a browser opens in a second."""

REASONS = 100
"""Reasons of failures that a page has."""


def configure(nouns: Any) -> None:
    """Add the command to the command line."""
    what = "write all tasks of a job into one HTML page that needs no network"
    report = nouns.add_parser("report", help=what, description=what)
    report.set_defaults(execute=_report)
    report.add_argument("job_name", metavar="JOB")
    report.add_argument("--html", metavar="FILE", required=True, help="where the page goes")
    report.add_argument("--json", action="store_true", help="print JSON: what the page has")
    add_database(report)


def _report(arguments: argparse.Namespace) -> int:
    from runner.files import replace_file
    from runner.fleet.job_views import failure_groups, progress
    from runner.fleet.report_page import JobReport, page

    path = Path(arguments.html)
    with opened(arguments, environment()) as database:
        job = database.job(arguments.job_name)
        found = progress(database, job)
        found = replace(found, failures=failure_groups(database, job, REASONS))
        tasks = database.views.reported(job.id, MOST_TASKS)
        total = max(sum(each.count for each in found.totals), len(tasks))
        made_at, where = database.now(), database.describe()
    text = page(JobReport(found, tasks, total, made_at, where, __version__)).encode()
    if path.exists() and not path.is_file():
        raise UsageError(f"--html: {path} is there, and no file")
    try:
        replace_file(path, [text], durable=False)
    except OSError as error:
        raise UsageError(f"--html: {path}: {error.strerror or error}") from error
    if arguments.json:
        told = {"file": str(path), "bytes": len(text), "tasks": total, "tasks_in_page": len(tasks)}
        print_json(told)
        return ExitCode.DONE
    held = "" if len(tasks) == total else f", of which the page holds {len(tasks):,}"
    print(f"✓ Wrote {path}: {total:,} tasks{held}; {len(text):,} bytes")
    return ExitCode.DONE
