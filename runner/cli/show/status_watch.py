"""``status --watch``: the live table on a terminal, else the summary line whenever it changes."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from runner.cli.show.terminal import Screen, can_redraw
from runner.cli.show.text import format_counts, headline
from runner.cli.show.wait_loop import until_ended
from runner.cli.streams import has_reader
from runner.targets.port import QueueConnection

EVERY = 1.0
"""Seconds between two looks."""

Show = Callable[[QueueConnection, dict[str, Any]], None]


def watch(there: QueueConnection, states: list[str] | None) -> dict[str, Any]:
    """Look again and again until the queue has ended; its last summary."""
    show = _table(states) if can_redraw(sys.stdout) else _line()
    queue: dict[str, Any] = {}

    def look() -> dict[str, Any]:
        if queue:
            time.sleep(EVERY)  # reason: the interval of a display
            if not there.live:
                there.reconnect()
        return there.query("status", limit=0)

    for answer in until_ended(there, "status", look):
        queue = answer["queue"]
        show(there, queue)
        if not has_reader(sys.stdout):
            break
    return queue


def _line() -> Show:
    last = ""

    def show(there: QueueConnection, queue: dict[str, Any]) -> None:
        nonlocal last
        line = f"{headline(queue)} ({format_counts(queue['counts'])})"
        if line != last:
            print(line, flush=True)
        last = line

    return show


def _table(states: list[str] | None) -> Show:
    from runner.cli.show.console import Console
    from runner.cli.show.live_table import chosen_states, render, room_for_jobs

    console = Console()

    def show(there: QueueConnection, queue: dict[str, Any]) -> None:
        screen = Screen(*console.size)
        room = room_for_jobs(queue, screen)
        jobs: list[dict[str, Any]] = []
        everything = queue["jobs_total"] <= room
        for each in [states] if states or everything else chosen_states(queue["counts"]):
            if room > len(jobs):
                found = there.query("status", limit=room - len(jobs), status=each)
                jobs += found["jobs"]
        picture = render(queue, jobs, screen.columns, states)
        console.clear()
        console.print(picture)

    return show
