"""What the verbs that act on a queue share."""

from __future__ import annotations

import argparse
import json
from typing import Any

from runner.cli import options
from runner.cli.connect import connection
from runner.cli.show.text import format_counts, headline
from runner.errors import ExitCode, UsageError


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of every verb that acts."""
    options.add_queue(parser)
    options.add_json(parser)
    options.add_on(parser)
    options.add_folders(parser)


def on_jobs(verb: str, arguments: argparse.Namespace, *, needs_all: bool, **fields: Any) -> int:
    """Act on some jobs or on the whole queue; ``fields`` are the request's others."""
    if arguments.jobs and arguments.all:
        raise UsageError("give jobs or --all, not both")
    if needs_all and not arguments.jobs and not arguments.all:
        raise UsageError("give the jobs to end, or --all for the whole queue")
    return _ask(verb, arguments, jobs=arguments.jobs or None, **fields)


def on_queue(verb: str, arguments: argparse.Namespace) -> int:
    """Act on the queue."""
    return _ask(verb, arguments)


def _ask(verb: str, arguments: argparse.Namespace, **fields: Any) -> int:
    with connection(arguments) as there:
        queue = there.act(verb, **fields)["queue"]
    if arguments.json:
        print(json.dumps(queue))
        return ExitCode.DONE
    print(f"{headline(queue)} ({format_counts(queue['counts'])})")
    if queue["status"] in ("running", "interrupted", "pending") and _resting(queue):
        print("no process works on it now: `runner run` or `runner submit` its document to go on")
    return ExitCode.DONE


def _resting(queue: dict[str, Any]) -> bool:
    return not queue.get("worker") and not queue.get("queued")
