"""What `ls` and `reap` show and do of queues on AWS Batch."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from typing import Any

from runner.cli.show import machines
from runner.cli.show.columns import Column, Cut
from runner.cli.show.columns import table as laid_out
from runner.cli.show.job_rows import duration
from runner.cli.show.terminal import screen_of
from runner.cli.show.text import clean
from runner.errors import ExitCode
from runner.results.stores import is_s3, parse_s3
from runner.targets.batch.launch_record import BatchLaunch, BatchLaunches, all_indexed
from runner.targets.batch.launched_queues import LaunchedQueue, end, look_at_all, overdue
from runner.timestamps import rfc3339

_COLUMNS = (
    Column("QUEUE", Cut.MIDDLE, soft=30, least=5),
    Column("STATUS"),
    Column("COORDINATOR"),
    Column("JOBS", leave_out=2),
    Column("AGE", leave_out=3),
    Column("JOB QUEUE", leave_out=4),
    Column("STORE", Cut.MIDDLE, soft=40, least=12, leave_out=1),
)


def list_queues(arguments: argparse.Namespace) -> int:
    """`ls --target batch`: what lives, with ``--all`` also what has ended."""
    found, troubles = look_at_all(_launches(arguments))
    shown = [one for one in found if one.lives or arguments.all]
    now = time.time()
    if arguments.json:
        told = {"found": [_view(one, now) for one in shown], "failed": troubles}
        print(json.dumps(told))
    elif shown:
        screen = screen_of(sys.stdout)
        rows = [_row(one, now) for one in shown]
        print("\n".join(laid_out(_COLUMNS, rows, screen.columns if screen else None)))
    elif not troubles:
        print("no queue of ours runs on AWS Batch")
    return _told("ls", found, troubles)


def reap_queues(arguments: argparse.Namespace, older: float | None) -> int:
    """`reap --target batch`: end the jobs of queues that are overdue."""
    if not arguments.dry_run:
        machines.check_can_ask("reap", yes=arguments.yes)
    found, troubles = look_at_all(_launches(arguments))
    now = time.time()
    judged = [(one, overdue(one, now, older)) for one in found]
    due = [(one, why) for one, why in judged if why is not None]
    for one, why in due:
        machines.say("reap", f"{one.launch.queue_id} ({one.launch.store}): {why}: {_jobs(one)}")
    ended = False
    if due and not arguments.dry_run:
        ended = machines.agreed(
            f"End {'it' if len(due) == 1 else 'all of them'}?", yes=arguments.yes
        )
        if ended:
            for one, why in due:
                troubles += end(one, why)
    if arguments.json:
        view = [{**_view(one, now), "reason": why, "ended": ended} for one, why in due]
        print(json.dumps({"overdue": view, "failed": troubles}))
    elif not due:
        print("nothing is overdue on AWS Batch")
    else:
        for one, why in due:
            said = "ended" if ended else "would end" if arguments.dry_run else "left"
            print(f"{said} {one.launch.queue_id}: {clean(why)}")
    code = _told("reap", found, troubles)
    return code if ended or arguments.dry_run or not due else ExitCode.ERROR


def _launches(arguments: argparse.Namespace) -> list[BatchLaunch]:
    """What this computer has launched, or what the index of ``--bucket`` has. Raises StoreError."""
    regions = _regions(arguments.region)
    found = {(one.queue_id, one.store): one for one in BatchLaunches.of_user(os.environ).records()}
    if arguments.bucket is not None:
        bucket = parse_s3(arguments.bucket)[0] if is_s3(arguments.bucket) else arguments.bucket
        found = {(one.queue_id, one.store): one for one in all_indexed(bucket)}
    return [one for one in found.values() if not regions or one.region in regions]


def _regions(given: str | None) -> list[str]:
    return [] if given in (None, "all") else str(given).split(",")


def _told(verb: str, found: list[LaunchedQueue], troubles: list[str]) -> int:
    unread = [f"{one.launch.store}: {one.trouble}" for one in found if one.trouble]
    for line in (*troubles, *unread):
        machines.say(verb, line)
    return ExitCode.ERROR if troubles or unread else ExitCode.DONE


def _view(one: LaunchedQueue, now: float) -> dict[str, Any]:
    age = one.age(now)
    return {
        "queue_id": one.launch.queue_id,
        "store": one.launch.store,
        "region": one.launch.region,
        "job_queue": one.launch.job_queue,
        "status": None if one.status is None else one.status.value,
        "started_at": rfc3339(one.started_at),
        "age_seconds": None if age is None else round(age),
        "coordinator": None if one.coordinator is None else one.coordinator["jobId"],
        "coordinator_status": None if one.coordinator is None else one.coordinator["status"],
        "jobs": [job["jobId"] for job in one.jobs],
    }


def _row(one: LaunchedQueue, now: float) -> list[str]:
    age = one.age(now)
    return [
        one.launch.queue_id,
        "not begun" if one.status is None else one.status.value,
        "none" if one.coordinator is None else str(one.coordinator["status"]),
        str(len(one.jobs)),
        "" if age is None else duration(round(age)),
        one.launch.job_queue,
        one.launch.store,
    ]


def _jobs(one: LaunchedQueue) -> str:
    count = len(one.jobs)
    jobs = f"{count} job{'s' * (count != 1)}"
    return jobs if one.coordinator is None else f"its coordinator and {jobs}"
