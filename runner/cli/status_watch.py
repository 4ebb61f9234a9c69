"""``status --watch``: the live table on a terminal, else the summary line whenever it changes."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any

from runner.cli.connect import Connection
from runner.cli.text import headline, told
from runner.cli.waiting import until_ended

EVERY = 1.0
"""Seconds between two looks."""

Show = Callable[[Connection, dict[str, Any]], None]


def watch(there: Connection, states: list[str] | None) -> dict[str, Any]:
    """Look again and again until the queue has ended; its last summary."""
    terminal = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    show = _table(states) if terminal else _line()
    queue: dict[str, Any] = {}

    def look() -> dict[str, Any]:
        if queue:
            time.sleep(EVERY)  # reason: the interval of a display
            if not there.live:
                there.renew()
        return there.look("status", limit=0)

    for answer in until_ended(there, "status", look):
        queue = answer["queue"]
        show(there, queue)
    return queue


def _line() -> Show:
    last = ""

    def show(there: Connection, queue: dict[str, Any]) -> None:
        nonlocal last
        line = f"{headline(queue)} ({told(queue['counts'])})"
        if line != last:
            print(line, flush=True)
        last = line

    return show


def _table(states: list[str] | None) -> Show:
    from rich.console import Console

    from runner.cli.table import chosen_states, render, room

    console = Console(highlight=False)

    def show(there: Connection, queue: dict[str, Any]) -> None:
        left = room(console)
        jobs: list[dict[str, Any]] = []
        for each in [states] if states else chosen_states(queue["counts"]):
            if left > len(jobs):
                found = there.look("status", limit=left - len(jobs), status=each)
                jobs += found["jobs"]
        console.clear()
        console.print(render(queue, jobs))

    return show
