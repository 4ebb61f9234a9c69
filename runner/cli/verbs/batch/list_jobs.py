"""List the jobs of a job queue of AWS Batch, in all states unless some are named, the newest first.
Batch forgets ended jobs after seven days."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING, Any

from runner.cli.show.columns import Column, Cut, table
from runner.cli.show.terminal import screen_of
from runner.cli.verbs.batch import job_options
from runner.errors import ExitCode, UsageError
from runner.model.messages import did_you_mean, quoted

if TYPE_CHECKING:
    from runner.aws.batch import Batch

COLUMNS = (
    Column("ID"),
    Column("NAME", Cut.MIDDLE, soft=30, least=10),
    Column("STATUS"),
    Column("CREATED", leave_out=1),
    Column("RUNTIME", leave_out=3),
    Column("REASON", Cut.WRAP, soft=30, least=15, leave_out=2),
)


def configure(parser: argparse.ArgumentParser) -> None:
    job_options.add_queue(parser)
    parser.add_argument("--name", metavar="PREFIX", help="only jobs whose name begins so")
    parser.add_argument(
        "--status", metavar="S[,S…]", help="only jobs in these states, such as RUNNING,FAILED"
    )
    parser.add_argument(
        "--array", metavar="ID", help="the children of this array, not a queue's jobs"
    )
    parser.add_argument("-n", "--limit", type=int, metavar="N", help="the newest N at most")
    job_options.add_where(parser)


def execute(arguments: argparse.Namespace) -> int:
    from runner.aws.batch import Batch

    states = _states(arguments.status)
    if arguments.limit is not None and arguments.limit < 1:
        raise UsageError("--limit needs at least 1")
    if arguments.array is not None:
        if arguments.job_queue is not None or arguments.name is not None:
            raise UsageError("--array lists one array's children: without --job-queue and --name")
        found = _children(arguments, states)
    else:
        known = job_options.settings(arguments)
        batch = Batch(job_options.region(known))
        found = _of_queue(batch, job_options.queue(known), arguments.name, states)
    jobs = list(islice(found, arguments.limit))
    if arguments.json:
        print(json.dumps([_view(job) for job in jobs]))
    elif jobs:
        screen = screen_of(sys.stdout)
        now = time.time()
        rows = [_row(job, now) for job in jobs]
        print("\n".join(table(COLUMNS, rows, screen.columns if screen else None)))
    else:
        job_options.say("list", "no jobs")
    return ExitCode.DONE


def _states(text: str | None) -> tuple[str, ...]:
    from runner.batch.job_detail import STATES

    if text is None:
        return STATES
    words = [word.strip().upper() for word in text.split(",")]
    for word in words:
        if word not in STATES:
            hint = did_you_mean(word, STATES)
            raise UsageError(f"--status: {quoted(word)} is none of {', '.join(STATES)}{hint}")
    return tuple(dict.fromkeys(words))


def _of_queue(
    batch: Batch, queue: str, name: str | None, states: tuple[str, ...]
) -> Iterable[dict[str, Any]]:
    if name:
        return [job for job in batch.named(queue, name) if job["status"] in states]
    found = {job["jobId"]: job for job in batch.in_states(queue, states)}
    return sorted(found.values(), key=lambda job: -job.get("createdAt", 0))


def _children(arguments: argparse.Namespace, states: tuple[str, ...]) -> Iterable[dict[str, Any]]:
    arguments.ids = [arguments.array]
    jobs = job_options.named_jobs(arguments)
    found = jobs.batch.children(jobs.ids[0], states)
    if not found:
        details, _ = jobs.look()
        if not details:
            job_options.say_missing("list", jobs.ids, jobs.region)
        elif "size" not in (details[jobs.ids[0]].get("arrayProperties") or {}):
            raise UsageError(f"{jobs.ids[0]} is no array")
    return sorted(found, key=lambda job: (job.get("arrayProperties") or {}).get("index", 0))


def _row(job: dict[str, Any], now: float) -> list[str]:
    from runner.batch.job_report import moment, span

    started, stopped = job.get("startedAt"), job.get("stoppedAt")
    passed = span(max(0.0, (stopped or now * 1000) - started) / 1000) if started else "-"
    size = (job.get("arrayProperties") or {}).get("size")
    name = f"{job['jobName']} [{size}]" if size else job["jobName"]
    created = moment(job.get("createdAt", 0) / 1000)
    return [job["jobId"], name, job["status"], created, passed, _reason(job)]


def _reason(job: dict[str, Any]) -> str:
    container = job.get("container") or {}
    code = container.get("exitCode")
    words = [f"exit code {code}"] if code else []
    if container.get("reason"):
        words.append(container["reason"])
    reason = job.get("statusReason")
    if reason and (job["status"] != "SUCCEEDED" or words):
        words.append(reason)
    return "; ".join(words)


def _view(job: dict[str, Any]) -> dict[str, Any]:
    container = job.get("container") or {}
    array = job.get("arrayProperties") or {}
    return {
        "job_id": job["jobId"],
        "job_arn": job.get("jobArn"),
        "name": job["jobName"],
        "status": job["status"],
        "reason": job.get("statusReason"),
        "definition": (job.get("jobDefinition") or "").rpartition("/")[2] or None,
        "created_ms": job.get("createdAt"),
        "started_ms": job.get("startedAt") or None,
        "stopped_ms": job.get("stoppedAt") or None,
        "exit_code": container.get("exitCode"),
        "container_reason": container.get("reason"),
        "array": {"size": array.get("size"), "index": array.get("index")} if array else None,
    }
