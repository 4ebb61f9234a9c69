"""Wait for jobs of AWS Batch to end. Exits with 0 if all have SUCCEEDED, 100 if one has FAILED, 101
if the time is over. Ctrl-C leaves the jobs alone."""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

from runner.cli.show.text import clean
from runner.cli.verbs.batch import job_options
from runner.errors import ExitCode, UsageError
from runner.model.durations import parse_duration

EVERY = 10.0
"""Seconds between two looks."""


def configure(parser: argparse.ArgumentParser) -> None:
    job_options.add_jobs(parser)
    parser.add_argument(
        "--timeout", metavar="DURATION", help="give up (exit code 101) after this time, such as 30m"
    )
    parser.add_argument(
        "--poll-interval", metavar="DURATION", help="between two looks (default: 10s)"
    )


def execute(arguments: argparse.Namespace) -> int:
    deadline = time.monotonic() + (_duration(arguments.timeout, "--timeout") or float("inf"))
    every = _duration(arguments.poll_interval, "--poll-interval") or EVERY
    jobs = job_options.named_jobs(arguments)
    try:
        found, missing = _wait(jobs, deadline, every, quiet=arguments.json)
    except KeyboardInterrupt:
        job_options.say("wait", "stopped waiting; the jobs were left alone, and go on")
        raise
    job_options.say_missing("wait", missing, jobs.region)
    left = [job_id for job_id, status in found.items() if status not in ("SUCCEEDED", "FAILED")]
    if arguments.json:
        print(json.dumps([{"job_id": job_id, "status": found[job_id]} for job_id in found]))
    for job_id in left:
        job_options.say("wait", f"{job_id} is {found[job_id]}: the time is over, it goes on")
    if missing:
        return ExitCode.NOT_FOUND
    if left:
        return ExitCode.NOT_FINISHED
    return ExitCode.QUEUE_FAILED if "FAILED" in found.values() else ExitCode.DONE


def _wait(
    jobs: job_options.NamedJobs, deadline: float, every: float, *, quiet: bool
) -> tuple[dict[str, str], list[str]]:
    """Id → status, and the unknown ones, once all have ended or the time is over."""
    from runner.aws.errors import AwsError, ErrorKind

    statuses: dict[str, str] = {}
    details, missing = jobs.look()
    while True:
        for job_id, raw in details.items():
            if raw["status"] in ("SUCCEEDED", "FAILED") and not quiet:
                print(_line(raw))
            statuses[job_id] = raw["status"]
        sys.stdout.flush()
        left = [each for each in statuses if statuses[each] not in ("SUCCEEDED", "FAILED")]
        if not left or time.monotonic() >= deadline:
            return {each: statuses[each] for each in jobs.ids if each in statuses}, missing
        time.sleep(min(every, max(0.0, deadline - time.monotonic())))  # reason: Batch tells nobody
        try:
            details = jobs.batch.describe(left)
        except AwsError as error:
            if error.kind is not ErrorKind.PASSING:
                raise
            job_options.say("wait", f"no answer this time: {error}")
            details = {}


def _line(raw: dict[str, Any]) -> str:
    from runner.batch.diagnosis import diagnose
    from runner.batch.job_detail import read_job

    job = read_job(raw)
    why = f": {diagnose(job).cause}" if job.status == "FAILED" else ""
    return clean(f"{job.id} {job.status}{why}")


def _duration(text: str | None, flag: str) -> float | None:
    if text is None:
        return None
    try:
        return parse_duration(text)
    except ValueError as error:
        raise UsageError(f"{flag}: {error}") from None
