"""Show the state of a queue and its jobs."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from typing import Any

from runner.cli import options
from runner.cli.connect import connection
from runner.cli.exit_codes import of_queue
from runner.cli.show.queue_status import show
from runner.cli.show.terminal import screen_of
from runner.cli.show.text import clean, format_counts
from runner.errors import ExitCode, NotFoundError, UsageError
from runner.model.job_globs import is_glob, matching
from runner.model.messages import quoted
from runner.targets.port import QueueConnection
from runner.timestamps import rfc3339_seconds

STATUSES = ["pending", "running", "completed", "failed", "cancelled", "interrupted", "skipped"]


def configure(parser: argparse.ArgumentParser) -> None:
    options.add_target(parser)
    options.add_queue(parser)
    options.add_json(parser)
    parser.add_argument(
        "--job",
        metavar="ID",
        help="one job, or one element of an array (ID[17]), with what happened to it; or a table "
        "of the jobs that a pattern matches (align.*)",
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--failed", action="store_true", help="only jobs that failed")
    which.add_argument(
        "--status", choices=STATUSES, metavar="STATUS", help="only jobs in this state"
    )
    which.add_argument(
        "--all", action="store_true", help="all jobs, even if they don't fit on the terminal"
    )
    parser.add_argument("--watch", action="store_true", help="repeat until the queue has ended")
    parser.add_argument(
        "--exit-code", action="store_true", help="exit with the code of the queue's outcome"
    )
    options.add_on(parser)
    options.add_folders(parser)


def execute(arguments: argparse.Namespace) -> int:
    _check(arguments)
    with connection(arguments, arguments.target) as there:
        if arguments.job is not None and not is_glob(arguments.job):
            return _one_job(there, arguments)
        states = _states(arguments)
        if arguments.watch:
            queue = _watch(there, states)
        else:
            answer = _fetch(there, states, arguments)
            if arguments.job is not None:
                answer = {**answer, "jobs": _matching(answer, arguments.job)}
            queue = answer["queue"]
            if arguments.json:
                print(json.dumps({**queue, "jobs": answer["jobs"]}))
            else:
                collapse = states is None and not arguments.all and arguments.job is None
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


def _matching(answer: dict[str, Any], pattern: str) -> list[dict[str, Any]]:
    meant = set(matching(pattern, [job["job_id"] for job in answer["jobs"]]))
    if not meant:
        queue_id = answer["queue"]["queue_id"]
        raise NotFoundError(f"no job of those in '{queue_id}' matches {quoted(pattern)}")
    return [job for job in answer["jobs"] if job["job_id"] in meant]


def _check(arguments: argparse.Namespace) -> None:
    if arguments.job is not None and is_glob(arguments.job):
        if arguments.watch:
            raise UsageError("--job shows how its jobs stand: not with --watch")
    elif arguments.job is not None:
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


def _one_job(there: QueueConnection, arguments: argparse.Namespace) -> int:
    from runner.cli.show.run_view import in_words

    answer = there.query("job", job=arguments.job)
    if arguments.json:
        print(json.dumps({**answer["job"], "story": answer["story"]}))
        return ExitCode.DONE
    for name, value in _fields(answer["job"]):
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
        # The story of an array is that of its elements.
        who = entry["job"] if entry["job"] != arguments.job else ""
        print(f"  {wall} {in_words(who, entry['event'], detail).strip()}")
    return ExitCode.DONE


def _fields(job: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """A job's fields, those of an array among them."""
    for name, value in job.items():
        if name != "array":
            yield name, value
            continue
        yield "elements", f"{value['size']:,} ({format_counts(value.get('counts', {}))})"
        for inside in ("running", "failed", "retried", "completed_seconds"):
            if inside in value:
                yield inside, value[inside]
