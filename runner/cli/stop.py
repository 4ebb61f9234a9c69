"""Interrupt the running jobs and stop the service; its next start resumes them."""

from __future__ import annotations

import argparse
import json
import os
import select
import sys

from runner.cli import options
from runner.cli.connect import Local, connection, find_daemon
from runner.control.client import Client
from runner.errors import ExitCode, UnreachableError, UsageError


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--detach", action="store_true", help="leave the jobs running: the next start adopts them"
    )
    parser.add_argument(
        "--queue", metavar="ID", help="whoever works on this queue (default: the daemon, if any)"
    )
    options.add_json(parser)
    options.add_on(parser)
    options.add_folders(parser)


def execute(arguments: argparse.Namespace) -> int:
    if arguments.on is not None:
        return _stop_elsewhere(arguments)
    with _find(arguments) as client:
        who = _stop(client, detach=arguments.detach)
    print(json.dumps(who) if arguments.json else f"stopped {who['stopped']}")
    return ExitCode.DONE


def _stop_elsewhere(arguments: argparse.Namespace) -> int:
    """There only its beginning can be seen."""
    if arguments.queue is not None:
        raise UsageError("--on stops the service there: not with --queue")
    with connection(arguments) as there:
        answer = there.act("stop", detach=arguments.detach or None)
    print(json.dumps(answer) if arguments.json else f"the service on {arguments.on} is stopping")
    return ExitCode.DONE


def _find(arguments: argparse.Namespace) -> Client:
    settings, queue = options.settings(arguments), options.queue(arguments)
    client = find_daemon(settings) if queue is None else None
    if client is not None:
        return client
    there = Local(settings, queue)
    if there.client is None:
        raise UnreachableError("nothing runs here that could be stopped")
    if queue and not there.look("status", limit=0)["queue"].get("worker"):
        there.close()
        raise UnreachableError(f"nobody works on queue '{queue}' now")
    return there.client


def _stop(client: Client, *, detach: bool) -> dict[str, object]:
    """Have it stop, and return when its process has ended: then another may start."""
    who = client.ask("ping")["who"]
    watched = _watch(client.peer)
    try:
        client.timeout = None
        client.ask("stop", detach=detach or None)
        if watched is not None:
            if not detach:
                print(f"runner stop: waiting for the jobs of {who} to end", file=sys.stderr)
            select.select([watched], [], [])
    finally:
        if watched is not None:
            os.close(watched)
    return {"stopped": who, "pid": client.peer}


def _watch(pid: int) -> int | None:
    """A descriptor that is readable once the process has ended (pidfd_open(2))."""
    try:
        return os.pidfd_open(pid) if pid else None
    except OSError:
        return None
