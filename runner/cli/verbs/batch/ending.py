"""What `cancel` and `terminate` of AWS Batch's jobs share: what becomes of each, in words."""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from runner.cli.verbs.batch import job_options
from runner.errors import ExitCode

AT_ONCE = 8
"""Requests that are under way at once."""

CANCELLABLE = ("SUBMITTED", "PENDING", "RUNNABLE")


def configure(parser: argparse.ArgumentParser) -> None:
    job_options.add_jobs(parser)
    job_options.add_reason(parser)


def end(verb: str, arguments: argparse.Namespace) -> int:
    """End the jobs; says of each what that means for it."""
    from runner.batch.request_limits import check_reason

    reason = arguments.reason if arguments.reason is not None else f"runner batch {verb}"
    check_reason(reason)
    jobs = job_options.named_jobs(arguments)
    found, missing = jobs.look()

    def one(job_id: str) -> tuple[str, str]:
        outcome, words = _outcome(verb, found[job_id])
        if outcome == "asked":
            call = jobs.batch.cancel if verb == "cancel" else jobs.batch.terminate
            call(job_id, reason)
        return outcome, words

    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="ending") as pool:
        outcomes = dict(zip(found, pool.map(one, found), strict=True))
    if arguments.json:
        told = [{"job_id": job_id, "outcome": each[0]} for job_id, each in outcomes.items()]
        print(json.dumps(told))
    else:
        for job_id, (_, words) in outcomes.items():
            print(f"{job_id}: {words}")
    job_options.say_missing(verb, missing, jobs.region)
    if missing:
        return ExitCode.NOT_FOUND
    begun = any(outcome == "begun" for outcome, _ in outcomes.values())
    return ExitCode.ERROR if begun else ExitCode.DONE


def _outcome(verb: str, raw: dict[str, Any]) -> tuple[str, str]:
    status = raw["status"]
    array = "size" in (raw.get("arrayProperties") or {})
    if status in ("SUCCEEDED", "FAILED"):
        return "ended", f"had ended before: {status}"
    if verb == "terminate":
        if status in CANCELLABLE and not array:
            return "asked", "terminated before it began"
        what = "its children get" if array else "it gets"
        return "asked", f"being terminated: {what} SIGTERM, and SIGKILL 30 s later"
    if array:
        return "asked", "its children that have not begun are cancelled; the others go on"
    if status == "PENDING":
        return "asked", "cancelled; Batch ends it once the jobs that it depends on have ended"
    if status in CANCELLABLE:
        return "asked", "cancelled"
    return "begun", f"has begun ({status}), so Batch cancels it no more: `runner batch terminate`"
