"""Show a job's output: its bytes, as they are."""

from __future__ import annotations

import argparse
import base64
import json
import sys
import time
from typing import Any

from runner.cli import options
from runner.cli.connect import HELD, Connection, Local, connection
from runner.cli.text import clean
from runner.errors import ExitCode, UsageError

EVERY = 0.25
"""Seconds between two looks while following a file that nobody tells us of."""

FAR = 256 * 1024
"""Bytes of a log elsewhere that are shown, counted from its end, if nobody says how many: SSM
passes some 20 KB in a second."""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("job", metavar="JOB", help="the job")
    options.add_queue(parser)
    parser.add_argument("-f", "--follow", action="store_true", help="go on until the attempt ends")
    parser.add_argument("--stderr", action="store_true", help="standard error (default: output)")
    parser.add_argument(
        "--attempt", type=int, metavar="N", help="an earlier attempt (default: the newest)"
    )
    parser.add_argument("--tail", type=int, metavar="BYTES", help="only the last so many bytes")
    parser.add_argument(
        "--from",
        dest="source",
        metavar="s3://BUCKET/PREFIX|FOLDER",
        help="as it is stored there, wherever the job ran",
    )
    options.add_json(parser)
    options.add_on(parser)
    options.add_folders(parser)


def execute(arguments: argparse.Namespace) -> int:
    if arguments.attempt is not None and arguments.attempt < 1:
        raise UsageError("--attempt counts from 1")
    if arguments.tail is not None and arguments.tail < 1:
        raise UsageError("--tail needs at least one byte")
    if arguments.json and arguments.follow:
        raise UsageError("--json shows a log as it is now: not with --follow")
    if arguments.source is not None:
        from runner.cli.logs_from import execute as show_stored

        if arguments.on is not None:
            raise UsageError("give --from, or --on: not both")
        return show_stored(arguments)
    with connection(arguments) as there:
        return _show(there, arguments)


def _show(there: Connection, arguments: argparse.Namespace) -> int:
    fields: dict[str, Any] = {
        "job": arguments.job,
        "stream": "stderr" if arguments.stderr else "stdout",
        "attempt": arguments.attempt,
        "offset": -arguments.tail if arguments.tail else 0,
    }
    if not isinstance(there, Local) and not arguments.tail:
        fields["offset"] = -FAR
    first = True
    while True:
        held = HELD if arguments.follow and there.patient else None
        answer = there.look("logs", follow=held, **fields)
        if first and not isinstance(there, Local):
            _tell_first(there, answer, arguments)
        first = False
        # The attempt that was the newest at first: a retry must not mix into it.
        fields["attempt"], fields["offset"] = answer["attempt"], answer["offset"]
        data = base64.b64decode(answer["data"])
        if arguments.json:
            return _print_json(answer, data)
        sys.stdout.buffer.write(data)
        if answer["offset"] < answer["size"]:
            continue
        sys.stdout.buffer.flush()
        if not (arguments.follow and answer["running"]):
            return ExitCode.DONE
        if not there.patient:
            time.sleep(EVERY)  # reason: following a file; it tells nobody when it grows
            there.renew()


def _tell_first(there: Connection, answer: dict[str, Any], arguments: argparse.Namespace) -> None:
    """Where it comes from if not from the machine, and what of a long log is left out."""
    for line in there.why_not[:1]:
        print(f"runner logs: {clean(line)}: this is from S3", file=sys.stderr)
    left_out = answer["offset"] - len(base64.b64decode(answer["data"]))
    if left_out and not arguments.tail:
        more = "--tail BYTES shows more, `runner results --logs-only` fetches all"
        print(f"runner logs: the first {left_out:,} bytes are left out: {more}", file=sys.stderr)


def _print_json(answer: dict[str, Any], data: bytes) -> int:
    text = data.decode("utf-8", "replace")
    view = {key: answer[key] for key in ("job", "attempt", "size", "running")}
    print(json.dumps({**view, "truncated": answer["offset"] < answer["size"], "text": text}))
    return ExitCode.DONE
