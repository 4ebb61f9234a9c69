"""The command ``runner-batch-status``: how a job of AWS Batch stands, and its changes to the end.

Its functions may be called from Python with a boto3 client. It only looks: it needs the permission
batch:DescribeJobs and no other, and interrupting it changes nothing about the job.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from runner.aws.clients import make_client
from runner.aws.errors import AwsError, ErrorKind, calling, part_of
from runner.batch import job_report
from runner.batch.diagnosis import Circumstances, Diagnosis, diagnose
from runner.batch.job_detail import ENDED, JobDetail, read_job
from runner.batch.job_ids import JobId, job_id_of
from runner.errors import NotFoundError, RunnerError, UsageError

DEFAULT_REGION = "us-east-1"
POLL_INTERVAL = 30

PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Seconds before each new try of a call that AWS throttled, or that found no network."""

UNKNOWN_PAUSES = (1.0, 2.0)
"""Seconds before each new look for a job that Batch doesn't know: a new one isn't known at once."""

FAREWELL = "stopped watching; the job was left alone, and goes on"

_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")

logger = logging.getLogger("aws_batch_status")

T = TypeVar("T")


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line (default: this process's own). Ends the process where it is wrong."""
    return build_parser().parse_args(argv)


def build_parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="runner-batch-status",
        description="Show how a job of AWS Batch stands; with --monitor, until it has ended. "
        "Ctrl-C ends the watching and leaves the job alone.",
        epilog="Exit status: 0 the job could be looked at, whatever became of it; 1 it could not; "
        "2 wrong usage. LOG_LEVEL says how much is told on stderr (default: INFO).",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--job-id",
        required=True,
        type=_job_id,
        metavar="ID",
        help="a job's id or ARN, an array's child ID:3, a node ID#0",
    )
    parser.add_argument(
        "--aws-region",
        metavar="REGION",
        default=os.environ.get("AWS_REGION") or DEFAULT_REGION,
        help=f"its region (default: $AWS_REGION, else {DEFAULT_REGION}; an ARN names its own)",
    )
    parser.add_argument(
        "--monitor", action="store_true", help="look again and again until it has ended"
    )
    parser.add_argument(
        "--poll-interval",
        type=_interval,
        default=POLL_INTERVAL,
        metavar="SECONDS",
        help=f"between two looks of --monitor (default: {POLL_INTERVAL})",
    )
    parser.add_argument(
        "--show-logs", action="store_true", help="print the address of its log in the console"
    )
    parser.add_argument(
        "--json", action="store_true", help="print JSON, with --monitor a line for each change"
    )
    return parser


def get_batch_client(region: str = DEFAULT_REGION) -> Any:
    """boto3's client of AWS Batch in a region. Raises AwsError for settings that can't be used."""
    return make_client("batch", region)


def get_job_status(batch_client: Any, job_id: str) -> dict[str, Any]:
    """The job's JobDetail, as DescribeJobs answers it: its keys are ``status``, ``statusReason`` …

    What AWS throttles is asked again, for half a minute. Raises NotFoundError where Batch doesn't
    know the job, AwsError for other refusals, UsageError for what isn't the id of a job.
    """
    asked = job_id_of(job_id)
    for pause in (*UNKNOWN_PAUSES, None):
        found = _patiently(lambda: _describe(batch_client, asked))
        if found is not None:
            return found
        if pause is not None:
            logger.debug("%s is not known yet; looking again in %gs", asked.id, pause)
            time.sleep(pause)  # reason: Batch tells nobody when a new job can be seen
    where = _region_of(batch_client)
    raise NotFoundError(
        f"AWS Batch knows no job {asked.id}" + (f" in {where}" if where else "") + ": is it another"
        " region's or another account's? Ended jobs are forgotten after seven days"
    )


def display_job_status(
    job_info: dict[str, Any], show_logs: bool = False, *, as_json: bool = False
) -> None:
    """Print a job on stdout; ``show_logs``: with the address of its log in the console."""
    now = time.time()
    job = read_job(job_info)
    why = _diagnosis(job, now)
    if as_json:
        print(json.dumps(job_report.view(job, now, diagnosis=why)), flush=True)
        return
    for line in job_report.lines(job, now, urls=show_logs, diagnosis=why):
        print(line)
    sys.stdout.flush()


def monitor_job(
    batch_client: Any,
    job_id: str,
    poll_interval: float = POLL_INTERVAL,
    show_logs: bool = False,
    *,
    as_json: bool = False,
) -> dict[str, Any]:
    """Print the job at each change until it has ended; returns its last JobDetail.

    Ctrl-C ends the watching only: what was seen last is returned. Raises as ``get_job_status`` for
    the first look; later a throttled or lost answer is only told.
    """
    shown: object = None
    info: dict[str, Any] = {}
    try:
        info = get_job_status(batch_client, job_id)
        while True:
            if (state := _what_changes(info)) != shown:
                if shown is not None and not as_json:
                    print()
                display_job_status(info, show_logs, as_json=as_json)
                shown = state
            if info["status"] in ENDED:
                return info
            logger.info("%s is %s; looking again in %gs", job_id, info["status"], poll_interval)
            time.sleep(poll_interval)
            info = _look_again(batch_client, job_id) or info
    except KeyboardInterrupt:
        if not info:
            raise
        print(f"\nrunner-batch-status: {FAREWELL}: it is {info['status']}", file=sys.stderr)
        return info


def main(argv: Sequence[str] | None = None) -> int:
    """The command: 0 if the job could be looked at, 1 on an error."""
    arguments = parse_args(argv)
    _set_up_logging()
    try:
        _run(arguments)
    except KeyboardInterrupt:
        print(f"\nrunner-batch-status: {FAREWELL}", file=sys.stderr)
        return 1
    except RunnerError as error:
        told = _in_words(error) if isinstance(error, AwsError) else str(error)
        print(f"runner-batch-status: {told}", file=sys.stderr)
        return 1
    return 0


def _run(arguments: argparse.Namespace) -> None:
    job = arguments.job_id
    client = get_batch_client(job_id_of(job).region or arguments.aws_region)
    if arguments.monitor:
        monitor_job(
            client,
            job,
            arguments.poll_interval,
            arguments.show_logs,
            as_json=arguments.json,
        )
    else:
        info = get_job_status(client, job)
        display_job_status(info, arguments.show_logs, as_json=arguments.json)


def _describe(client: Any, job: JobId) -> dict[str, Any] | None:
    """None: Batch doesn't know it, or not yet."""
    with calling(lambda error: error):
        answer = client.describe_jobs(jobs=[job.id])
    for found in part_of(answer, "DescribeJobs", "jobs"):
        if part_of(found, "DescribeJobs", "jobId") == job.id:
            part_of(found, "DescribeJobs", "status")
            detail: dict[str, Any] = found
            return detail
    return None


def _patiently(call: Callable[[], T]) -> T:
    """What passes is tried again. Raises AwsError."""
    for pause in PAUSES:
        try:
            return call()
        except AwsError as error:
            if error.kind is not ErrorKind.PASSING:
                raise
            logger.warning("%s; trying again in %gs", error, pause)
            time.sleep(pause)  # reason: AWS asks its callers to wait (Batch API, "Common Errors")
    return call()


def _look_again(client: Any, job_id: str) -> dict[str, Any] | None:
    """A later look; None where AWS gave no answer this time, or no longer knows the job at once."""
    try:
        return get_job_status(client, job_id)
    except AwsError as error:
        if error.kind is not ErrorKind.PASSING:
            raise
        logger.warning("no answer this time: %s", error)
        return None


def _what_changes(info: dict[str, Any]) -> object:
    """What is printed anew when it is another."""
    array = info.get("arrayProperties") or {}
    return (
        info["status"],
        info.get("statusReason"),
        len(info.get("attempts") or info.get("eksAttempts") or ()),
        tuple(sorted((array.get("statusSummary") or {}).items())),
        (info.get("container") or {}).get("logStreamName"),
        bool(info.get("isTerminated")),
    )


def _diagnosis(job: JobDetail, now: float) -> Diagnosis | None:
    """What can be said by the job alone; nothing where all is well."""
    waited = now - job.created if job.created is not None else None
    found = diagnose(job, Circumstances(waited=waited))
    if job.status == "RUNNABLE" and not job.reason:
        step = f"`runner batch explain {job.id}` looks at its queue and compute environments too"
        found = replace(found, next_steps=(step, *found.next_steps))
    return None if found.code in ("succeeded", "running") else found


def _in_words(error: AwsError) -> str:
    match error.kind:
        case ErrorKind.DENIED:
            return f"AWS denied it ({error}); it needs the permission batch:DescribeJobs"
        case ErrorKind.EXPIRED:
            return f"the AWS credentials have expired ({error}): log in again"
        case ErrorKind.NO_CREDENTIALS:
            return f"{error}; `aws configure` or `aws sso login` helps"
        case ErrorKind.PASSING:
            return f"AWS Batch gave no answer after {len(PAUSES) + 1} tries: {error}"
        case _:
            return str(error)


def _region_of(client: Any) -> str | None:
    found = getattr(getattr(client, "meta", None), "region_name", None)
    return found if isinstance(found, str) else None


def _set_up_logging() -> None:
    """Ours only: botocore's own log holds session tokens at DEBUG."""
    wanted = (os.environ.get("LOG_LEVEL") or "INFO").upper()
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        logger.addHandler(handler)
    logger.setLevel(wanted if wanted in _LEVELS else "INFO")
    if wanted not in _LEVELS:
        logger.warning("LOG_LEVEL is none of %s: taken for INFO", ", ".join(_LEVELS))


def _job_id(text: str) -> str:
    try:
        job_id_of(text)
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text.strip()


def _interval(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 86_400:
        raise argparse.ArgumentTypeError("must be seconds, more than 0 and at most 86400")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
