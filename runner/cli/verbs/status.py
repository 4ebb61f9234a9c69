"""Show how a queue and its jobs stand."""

from __future__ import annotations

import argparse
import json
import sys
from itertools import islice
from typing import Any

from runner.cli import options
from runner.cli.connect import connection
from runner.cli.exit_codes import of_queue
from runner.cli.show.columns import cells_of, table, wrap
from runner.cli.show.job_rows import COLUMNS, row, told_of_rest, waits, went_well
from runner.cli.show.terminal import Screen, screen_of
from runner.cli.show.text import clean, format_counts
from runner.errors import ExitCode, UsageError
from runner.targets.port import QueueConnection
from runner.timestamps import rfc3339_seconds

_LABEL = 13
"""Characters of a field's name in the summary."""

_FRAME = 4
"""Lines besides summary and jobs: an empty one, the heads, the prompt, a line about it."""

STATUSES = ["pending", "running", "completed", "failed", "cancelled", "interrupted", "skipped"]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "target",
        nargs="?",
        metavar="QUEUE|INSTANCE",
        help="a queue here or on EC2, or an instance's id (default: this machine's current queue)",
    )
    options.add_queue(parser)
    options.add_json(parser)
    parser.add_argument("--job", metavar="ID", help="one job, with its story")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--failed", action="store_true", help="only jobs that failed")
    which.add_argument(
        "--status", choices=STATUSES, metavar="STATUS", help="only jobs in this state"
    )
    which.add_argument(
        "--all", action="store_true", help="all jobs, also on a terminal they don't fit on"
    )
    parser.add_argument("--watch", action="store_true", help="show it again and again to its end")
    parser.add_argument(
        "--exit-code", action="store_true", help="exit with the code of the queue's outcome"
    )
    options.add_on(parser)
    options.add_folders(parser)


def execute(arguments: argparse.Namespace) -> int:
    _check(arguments)
    with connection(arguments, arguments.target) as there:
        if arguments.job is not None:
            return _one_job(there, arguments)
        states = _states(arguments)
        if arguments.watch:
            queue = _watch(there, states)
        else:
            answer = _fetch(there, states, arguments)
            queue = answer["queue"]
            if arguments.json:
                print(json.dumps({**queue, "jobs": answer["jobs"]}))
            else:
                collapse = states is None and not arguments.all
                print(show(answer, screen_of(sys.stdout), collapse=collapse))
    return of_queue(queue) if arguments.exit_code else ExitCode.DONE


def _watch(there: QueueConnection, states: list[str] | None) -> dict[str, Any]:
    if there.traits.stored_copy:
        from runner.cli.show.remote_watch import watch as watch_both

        return watch_both(there, states)
    from runner.cli.show.status_watch import watch

    return watch(there, states)


def _fetch(
    there: QueueConnection, states: list[str] | None, arguments: argparse.Namespace
) -> dict[str, Any]:
    if there.traits.stored_copy:
        from runner.cli.show.remote_status import fetch as fetch_both

        return fetch_both(there, states, brief=not arguments.json)
    return fetch(there, states)


def _check(arguments: argparse.Namespace) -> None:
    if arguments.job is not None:
        for flag in ("watch", "failed", "status", "all", "exit_code"):
            if getattr(arguments, flag):
                raise UsageError(f"--job shows one job: not with --{flag.replace('_', '-')}")
    if arguments.watch and arguments.all:
        raise UsageError("--watch shows what there is room for: not with --all")
    if arguments.watch and arguments.json:
        raise UsageError("--watch is for people: not with --json")


def _states(arguments: argparse.Namespace) -> list[str] | None:
    if arguments.failed:
        return ["failed"]
    return [arguments.status] if arguments.status else None


def fetch(there: QueueConnection, states: list[str] | None) -> dict[str, Any]:
    """The summary and all jobs asked for, page by page."""
    jobs: list[dict[str, Any]] = []
    after: int | None = 0
    answer: dict[str, Any] = {}
    while after is not None:
        answer = there.query("status", after=after, status=states)
        jobs += answer["jobs"]
        after = answer.get("after")
    return {"queue": answer["queue"], "jobs": jobs}


def show(answer: dict[str, Any], screen: Screen | None = None, *, collapse: bool = False) -> str:
    """How the queue stands, and its jobs; below them, where they don't fit on the screen.

    ``collapse``: of so many those that need no words are only counted.
    """
    jobs = answer["jobs"]
    lines = _summary(answer["queue"], _hint(answer))
    summary = [piece for line in lines for piece in _fitting(line, screen)]
    room = screen.lines - len(summary) - _FRAME if screen else len(jobs)
    if len(jobs) <= room:
        return "\n".join([*summary, "", *_table(jobs, screen)])
    jobs, rest = _shortlist(jobs, room) if collapse else (jobs, [])
    more = [f"+{told_of_rest(rest)} (--all shows all)"] if rest else []
    return "\n".join([*_table(jobs, screen), *more, "", *summary])


def _hint(answer: dict[str, Any]) -> list[str]:
    """Where it is told why the first of the failed jobs failed."""
    queue = answer["queue"]
    on = ""
    if "source" in queue:
        name = queue.get("instance", {}).get("instance_id")
        if name is None:
            return []
        on = f" --on {name}"
    failed = (job for job in answer["jobs"] if job["status"] == "failed" and job["attempt"])
    return [f"See why:     runner logs {job['job_id']}{on}" for job in islice(failed, 1)]


def _fitting(line: str, screen: Screen | None) -> list[str]:
    """A field in lines of the screen's width, its value below itself."""
    if screen is None or cells_of(line) <= screen.columns:
        return [line]
    lines = wrap(line[_LABEL:], screen.columns - _LABEL)
    return [line[:_LABEL] + lines[0], *(" " * _LABEL + each for each in lines[1:])]


def _shortlist(
    jobs: list[dict[str, Any]], room: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What a person should see, and the rest: what is well, and what waits beyond the room."""
    needed = sum(not went_well(job) and not waits(job) for job in jobs)
    left = max(0, room - needed)
    shown, rest = [], []
    for job in jobs:
        if went_well(job) or (waits(job) and left <= 0):
            rest.append(job)
            continue
        left -= waits(job)
        shown.append(job)
    return shown, rest


def _table(jobs: list[dict[str, Any]], screen: Screen | None) -> list[str]:
    return table(COLUMNS, map(row, jobs), screen.columns if screen else None)


def _summary(queue: dict[str, Any], hint: list[str]) -> list[str]:
    elsewhere = "source" in queue
    if elsewhere:
        from runner.cli.show import remote_status
    lines = [
        *(remote_status.head(queue) if elsewhere else ()),
        f"Queue ID:    {queue['queue_id']}",
        f"Name:        {clean(queue['queue_name'])}",
        f"Status:      {queue['status']}" + (" (paused)" if queue.get("paused") else ""),
    ]
    for label, key in (
        ("Reason", "reason"),
        ("Held up", "blocked"),
        ("Resumed", "resumed"),
        ("Started", "started_at"),
        ("Machine", "machine"),
        ("Updated", "updated_at"),
        ("Ended", "completed_at"),
    ):
        if queue.get(key):
            lines.append(f"{label + ':':<{_LABEL}}{clean(queue[key])}")
    lines += hint
    lines += [f"Worker:      {_worker(queue)}", f"Jobs:        {format_counts(queue['counts'])}"]
    return [*lines, *(remote_status.foot(queue) if elsewhere else ())]


def _worker(queue: dict[str, Any]) -> str:
    if queue.get("worker"):
        return clean(queue["worker"])
    if queue.get("queued"):
        return f"none yet: it waits for {clean(queue['queued'])}"
    return "none"


def _one_job(there: QueueConnection, arguments: argparse.Namespace) -> int:
    from runner.cli.show.run_view import in_words

    answer = there.query("job", job=arguments.job)
    if arguments.json:
        print(json.dumps({**answer["job"], "story": answer["story"]}))
        return ExitCode.DONE
    for name, value in answer["job"].items():
        print(f"{name + ':':<18}{clean(str(value))}")
    if not answer["story"] and (why := there.diagnosis):
        print("story:            (it is on the machine)")
        for line in why:
            print(f"runner status: {clean(line)}", file=sys.stderr)
        return ExitCode.DONE
    print("story:" + (" (its beginning is left out)" if answer.get("truncated") else ""))
    for entry in answer["story"]:
        wall = rfc3339_seconds(entry["wall"])
        detail = {k: v for k, v in entry.items() if k not in ("wall", "job", "event")}
        print(f"  {wall} {in_words('', entry['event'], detail).strip()}")
    return ExitCode.DONE
