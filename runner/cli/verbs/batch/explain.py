"""Say why a job of AWS Batch stands as it does, and what to do next.

It goes by Batch's reasons, the containers' exit codes and the end of the log; for a job that waits
by its place in the queue and the compute environments."""

from __future__ import annotations

import argparse
import json

from runner.cli.show.text import clean
from runner.cli.verbs.batch import job_options
from runner.errors import ExitCode


def configure(parser: argparse.ArgumentParser) -> None:
    job_options.add_jobs(parser)


def execute(arguments: argparse.Namespace) -> int:
    from runner.batch.circumstances import explain
    from runner.batch.job_detail import read_job

    jobs = job_options.named_jobs(arguments)
    found, missing = jobs.look()
    views = []
    for number, raw in enumerate(found.values()):
        job = read_job(raw)
        why = explain(jobs.batch, job, jobs.region, _unseen)
        job_options.say_of_queue("explain", job)
        views.append({"job_id": job.id, "status": job.status, **why.view()})
        if arguments.json:
            continue
        if number:
            print()
        print(f"{job.id} ({clean(job.name)}) is {job.status}: {clean(why.cause)}")
        for step in why.next_steps:
            print(f"  → {clean(step)}")
        for line in why.evidence:
            print(f"  AWS: {clean(line)}")
        for line in why.log:
            print(f"  log: {clean(line)}")
        print(f"  code: {why.code}")
    if arguments.json:
        print(json.dumps(views))
    job_options.say_missing("explain", missing, jobs.region)
    return ExitCode.NOT_FOUND if missing else ExitCode.DONE


def _unseen(why: str) -> None:
    job_options.say("explain", f"not looked at: {why}")
