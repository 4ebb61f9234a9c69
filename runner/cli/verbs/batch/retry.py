"""Submit failed jobs of AWS Batch again, with what they were submitted with; prints the new ids.

Of an array only the children that failed run again: a new array, whose command runs under /bin/sh
and finds each child's former AWS_BATCH_JOB_ARRAY_INDEX. An image with an ENTRYPOINT of its own
cannot be run so: submit the whole array again."""

from __future__ import annotations

import argparse
import json
from typing import Any

from runner.cli.verbs.batch import job_options
from runner.errors import ExitCode, UsageError


def configure(parser: argparse.ArgumentParser) -> None:
    job_options.add_jobs(parser)
    parser.add_argument("--dry-run", action="store_true", help="print the requests, send nothing")


def execute(arguments: argparse.Namespace) -> int:
    from runner.batch import request_limits, single_jobs

    jobs = job_options.named_jobs(arguments)
    found, missing = jobs.look()
    job_options.say_missing("retry", missing, jobs.region)
    if missing:
        return ExitCode.NOT_FOUND
    requests = {job_id: _request(jobs, raw) for job_id, raw in found.items()}
    for request in requests.values():
        request_limits.check_submission(request)
    if arguments.dry_run:
        print(json.dumps(list(requests.values()), indent=2))
        return ExitCode.DONE
    submitted: dict[str, str] = {}
    try:
        for job_id, request in requests.items():
            new = single_jobs.submit(jobs.batch, request, _say)
            submitted[job_id] = new
            if not arguments.json:
                print(new, flush=True)
                _say(f"{new} is {job_id} again{_of_array(request)}")
    finally:
        # Those that were submitted run, whatever became of the others.
        if arguments.json:
            told = [{"job_id": new, "retry_of": old} for old, new in submitted.items()]
            print(json.dumps(told))
    return ExitCode.DONE


def _say(line: str) -> None:
    job_options.say("retry", line)


def _request(jobs: job_options.NamedJobs, raw: dict[str, Any]) -> dict[str, Any]:
    from runner.aws.errors import AwsError, ErrorKind
    from runner.batch.job_detail import read_job
    from runner.batch.plain_definitions import CONTENT
    from runner.batch.resubmission import former_indices, request_again
    from runner.batch.single_jobs import MARK

    job_id = raw["jobId"]
    if (store := read_job(raw).result_store) is not None:
        told = f"{job_id} is an attempt of a queue, whose results are in {store}"
        raise UsageError(f"{told}: `runner retry` runs its job again")
    if raw["status"] != "FAILED":
        raise UsageError(f"{job_id} is {raw['status']}: only what has FAILED is submitted again")
    array = raw.get("arrayProperties") or {}
    former = former_indices(raw)
    failed: list[int] | None = None
    if array.get("size") is not None:
        children = jobs.batch.children(job_id, ("FAILED",))
        failed = sorted(child["arrayProperties"]["index"] for child in children)
        if len(failed) == array["size"]:
            failed = None
    elif array.get("index") is not None:
        failed = [array["index"]]
    if failed is not None and former is not None:
        failed = [former[index] for index in failed]
    try:
        definition = jobs.batch.definition(raw["jobDefinition"])
    except AwsError as error:
        if error.kind is not ErrorKind.DENIED:
            raise
        definition = None
    return request_again(raw, definition, (MARK, CONTENT), failed)


def _of_array(request: dict[str, Any]) -> str:
    from runner.batch.resubmission import INDICES

    override = request.get("containerOverrides") or {}
    for each in override.get("environment") or ():
        if each["name"] == INDICES:
            return f": index {each['value'].replace(' ', ', ')}"
    return ""
