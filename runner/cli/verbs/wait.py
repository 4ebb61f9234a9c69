"""Wait for a queue to end; exits with the code of its outcome."""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

from runner.cli import options
from runner.cli.connect import connection
from runner.cli.exit_codes import of_queue
from runner.cli.show.text import clean, headline
from runner.cli.show.wait_loop import AGAIN, until_ended
from runner.errors import UsageError
from runner.model.durations import parse_duration
from runner.targets.port import HOLD_SECONDS, QueueConnection


def configure(parser: argparse.ArgumentParser) -> None:
    options.add_target(parser)
    options.add_queue(parser)
    options.add_json(parser)
    parser.add_argument(
        "--timeout", metavar="DURATION", help="give up (exit code 101) after this time, such as 30m"
    )
    options.add_on(parser)
    options.add_folders(parser)


def execute(arguments: argparse.Namespace) -> int:
    deadline = _deadline(arguments.timeout)
    with connection(arguments, arguments.target) as there:
        there.wait_through_boot(_say)
        try:
            queue = _wait(there, deadline)
        except KeyboardInterrupt:
            if there.traits.elsewhere:
                words = "the queue goes on, with or without this computer"
                print(f"\nrunner wait: detached; {words}", file=sys.stderr)
            raise
        for line in there.diagnosis:
            print(f"runner wait: {clean(line)}", file=sys.stderr)
    print(json.dumps(queue) if arguments.json else headline(queue))
    return of_queue(queue)


def _say(line: str) -> None:
    print(f"runner wait: {clean(line)}", file=sys.stderr, flush=True)


def _wait(there: QueueConnection, deadline: float) -> dict[str, Any]:
    """The summary once the queue has ended, no process works on it, or the time is over."""
    queue: dict[str, Any] = {}

    def look() -> dict[str, Any]:
        left = max(0.0, deadline - time.monotonic())
        if there.holds_requests and queue:
            return there.query("wait", timeout=min(left, HOLD_SECONDS))
        if queue:
            time.sleep(min(left, AGAIN))  # reason: the disk tells nobody
            there.reconnect()
        # A status first: a process that is asked to wait may end before it has answered.
        return there.query("status", limit=0)

    for answer in until_ended(there, "wait", look):
        queue = answer["queue"]
        if time.monotonic() >= deadline:
            break
    return queue


def _deadline(text: str | None) -> float:
    if text is None:
        return float("inf")
    try:
        return time.monotonic() + parse_duration(text)
    except ValueError as error:
        raise UsageError(f"--timeout: {error}") from None
