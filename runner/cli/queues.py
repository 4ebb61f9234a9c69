"""List the queues that are kept here."""

from __future__ import annotations

import argparse
import json

from runner.cli import options
from runner.cli.connect import connection
from runner.cli.text import columns
from runner.errors import ExitCode, NotFoundError


def configure(parser: argparse.ArgumentParser) -> None:
    options.add_queue(parser)
    options.add_json(parser)
    options.add_on(parser)
    options.add_folders(parser)


def execute(arguments: argparse.Namespace) -> int:
    with connection(arguments) as there:
        found = there.look("queues")["queues"]
    if arguments.queue is not None:
        found = [queue for queue in found if queue["name"] == arguments.queue]
        if not found:
            raise NotFoundError(f"there is no queue '{arguments.queue}'")
    if arguments.json:
        print(json.dumps(found))
        return ExitCode.DONE
    rows = [
        (
            queue["name"],
            queue.get("status", "unreadable"),
            queue.get("started_at", "-"),
            queue.get("completed_at", "-"),
            queue.get("reason") or queue.get("error") or "",
        )
        for queue in found
    ]
    print(columns(("QUEUE ID", "STATUS", "STARTED", "ENDED", "REASON"), rows))
    return ExitCode.DONE
