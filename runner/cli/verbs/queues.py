"""List the queues on this machine."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from runner.cli import options
from runner.cli.connect import connection
from runner.cli.show.columns import Column, Cut, table
from runner.cli.show.job_rows import to_the_second
from runner.cli.show.terminal import screen_of
from runner.cli.show.text import openness
from runner.errors import ExitCode, NotFoundError

COLUMNS = (
    Column("QUEUE ID", Cut.MIDDLE, soft=24, least=16),
    Column("STATUS"),
    Column("STARTED", leave_out=1),
    Column("ENDED", leave_out=2),
    Column("REASON", Cut.WRAP, soft=30, least=16, leave_out=3),
)


def configure(parser: argparse.ArgumentParser) -> None:
    options.add_queue(parser)
    options.add_json(parser)
    options.add_on(parser)
    options.add_folders(parser)


def execute(arguments: argparse.Namespace) -> int:
    with connection(arguments) as there:
        found = there.query("queues")["queues"]
    if arguments.queue is not None:
        found = [queue for queue in found if _word(queue) == arguments.queue]
        if not found:
            raise NotFoundError(f"there is no queue '{arguments.queue}'")
    if arguments.json:
        print(json.dumps(found))
        return ExitCode.DONE
    screen = screen_of(sys.stdout)
    print("\n".join(table(COLUMNS, rows_of(found), screen.columns if screen else None)))
    return ExitCode.DONE


def rows_of(found: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """The table's cells. REASON: why a queue has ended, or why no process works on it."""
    return [
        (
            _word(queue),
            queue.get("status", "unreadable"),
            to_the_second(queue.get("started_at", "-")),
            to_the_second(queue.get("completed_at", "-")),
            _reason(queue),
        )
        for queue in found
    ]


def _reason(queue: dict[str, Any]) -> str:
    told = queue.get("reason") or queue.get("error") or queue.get("blocked")
    return str(told or openness(queue) or "")


def _word(queue: dict[str, Any]) -> str:
    """What ``--queue`` takes for it."""
    return str(queue.get("kept_as") or queue["queue_id"])
