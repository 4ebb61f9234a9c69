"""Show all that AWS Batch knows of jobs: every container, every attempt, the logs' addresses."""

from __future__ import annotations

import argparse
import json
import time

from runner.cli.verbs.batch import job_options
from runner.errors import ExitCode


def configure(parser: argparse.ArgumentParser) -> None:
    job_options.add_jobs(parser)
    parser.add_argument(
        "--raw", action="store_true", help="print AWS's own answer as JSON, with environment and "
        "command, which may hold secrets",
    )  # fmt: skip


def execute(arguments: argparse.Namespace) -> int:
    from runner.batch import job_report
    from runner.batch.job_detail import read_job

    jobs = job_options.named_jobs(arguments)
    found, missing = jobs.look()
    now = time.time()
    if arguments.raw:
        print(json.dumps(list(found.values()), indent=2))
    elif arguments.json:
        details = [read_job(raw) for raw in found.values()]
        print(json.dumps([job_report.view(job, now, region=jobs.region) for job in details]))
    else:
        blocks = [
            "\n".join(job_report.lines(read_job(raw), now, region=jobs.region, urls=True))
            for raw in found.values()
        ]
        if blocks:
            print("\n\n".join(blocks))
    job_options.say_missing("describe", missing, jobs.region)
    return ExitCode.NOT_FOUND if missing else ExitCode.DONE
