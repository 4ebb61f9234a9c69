"""Show how jobs of AWS Batch stand: of one all that matters, with why; of several a line each."""

from __future__ import annotations

import argparse
import json
import sys
import time

from runner.cli.show.columns import Column, Cut, table
from runner.cli.show.terminal import screen_of
from runner.cli.verbs.batch import job_options
from runner.errors import ExitCode


def configure(parser: argparse.ArgumentParser) -> None:
    job_options.add_jobs(parser)


COLUMNS = (
    Column("ID"),
    Column("NAME", Cut.MIDDLE, soft=24, least=10, leave_out=2),
    Column("STATUS"),
    Column("CREATED", leave_out=1),
    Column("RUNTIME"),
    Column("EXIT"),
    Column("WHY", Cut.WRAP, soft=40, least=20, leave_out=3),
)


def execute(arguments: argparse.Namespace) -> int:
    from runner.batch import job_report
    from runner.batch.circumstances import explain
    from runner.batch.diagnosis import diagnose
    from runner.batch.job_detail import read_job

    jobs = job_options.named_jobs(arguments)
    found, missing = jobs.look()
    now = time.time()
    several = len(jobs.ids) > 1
    views, rows = [], []
    for raw in found.values():
        job = read_job(raw)
        # Of many each would need calls of its own.
        why = diagnose(job) if several else explain(jobs.batch, job, jobs.region, _unseen)
        shown = None if why.code in ("succeeded", "running") else why
        views.append(job_report.view(job, now, region=jobs.region, diagnosis=shown))
        if not several and not arguments.json:
            print("\n".join(job_report.lines(job, now, region=jobs.region, diagnosis=shown)))
        passed = job_report.runtime(job, now)
        code = views[-1]["exit_code"]
        rows.append(
            [
                job.id,
                job.name,
                job.status,
                job_report.moment(job.created),
                "-" if passed is None else job_report.span(passed),
                "-" if code is None else str(code),
                shown.cause if shown is not None else job_report.array_counts(job),
            ]
        )
    if arguments.json:
        print(json.dumps(views))
    elif several and rows:
        screen = screen_of(sys.stdout)
        print("\n".join(table(COLUMNS, rows, screen.columns if screen else None)))
    job_options.say_missing("status", missing, jobs.region)
    return ExitCode.NOT_FOUND if missing else ExitCode.DONE


def _unseen(why: str) -> None:
    job_options.say("status", f"not looked at: {why}")
