"""``status --watch`` where a copy is stored: the machine every ten seconds, else the stored copy.

Owns how often both are asked. On EC2 a question to the machine is a command of SSM and two to five
looks at it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from runner.cli.show.machine_source import foot, head
from runner.cli.show.terminal import Screen, can_redraw
from runner.cli.show.text import clean, format_counts, headline
from runner.cli.show.wait_loop import until_ended
from runner.cli.streams import has_reader
from runner.errors import RunnerError
from runner.targets.port import QueueConnection

LIVE_EVERY = 10.0
"""Seconds between the ends of two questions to the machine."""

STORED_EVERY = 2.5
"""Seconds between two looks at the stored copy; S3 sends no body while nothing is new."""

MATTERS = ["running", "interrupted", "failed", "pending"]
"""Which jobs are shown of a queue with more than there is room for."""

Answer = dict[str, Any]
Show = Callable[[Answer], None]


def watch(there: QueueConnection, states: list[str] | None) -> Answer:
    """Look again and again until the queue has ended; its last summary."""
    there.wait_through_boot(lambda line: None)  # it is the queue's reason, and shown
    show, rows = _screen(states) if can_redraw(sys.stdout) else (_line(), 0)
    watching = _Watching(there, states, rows)
    queue: Answer = {}
    for answer in until_ended(there, "status", watching.look):
        queue = answer["queue"]
        show(answer)
        if not has_reader(sys.stdout):
            break
    for line in there.diagnosis:
        print(f"runner status: {clean(line)}", file=sys.stderr)
    return queue


class _Watching:
    """What is asked next: the machine, or the stored copy."""

    def __init__(self, there: QueueConnection, states: list[str] | None, rows: int) -> None:
        self._there = there
        self._states = states
        self._rows = rows
        self._next = 0.0
        self._newest = ""

    def look(self) -> Answer:
        """The next answer with news; the first one at once, from the stored copy."""
        if not self._newest and (seen := self._there.stored_status(self._states)) is not None:
            return self._shown(seen)
        while (left := self._next - time.monotonic()) > 0:
            time.sleep(min(STORED_EVERY, left))  # reason: the interval of a display
            seen = self._there.stored_status(self._states)
            if seen is not None and str(seen["queue"].get("updated_at", "")) > self._newest:
                return self._shown(seen)
        try:
            return self._shown(self._live())
        except RunnerError as error:
            return self._there.status_despite(error)
        finally:
            self._next = time.monotonic() + LIVE_EVERY

    def _shown(self, answer: Answer) -> Answer:
        self._newest = max(self._newest, str(answer["queue"].get("updated_at", "-")))
        return answer

    def _live(self) -> Answer:
        limit = self._rows or None
        if not limit:
            return self._there.query("status", limit=0)
        answer = self._there.query("status", limit=limit, status=self._states, brief=True)
        if "after" in answer and not self._states:
            # More than there is room for: then what matters.
            return self._there.query("status", limit=limit, status=MATTERS, brief=True)
        return answer


def _line() -> Show:
    last = ""

    def show(answer: Answer) -> None:
        nonlocal last
        queue = answer["queue"]
        counts = format_counts(queue["counts"])
        line = headline(queue) + (f" ({counts})" if counts else "")
        if line != last:
            print(line, flush=True)
        last = line

    return show


def _screen(states: list[str] | None) -> tuple[Show, int]:
    from rich.text import Text

    from runner.cli.show.columns import shortened
    from runner.cli.show.console import Console
    from runner.cli.show.live_table import choose, render, room_for_jobs

    console = Console()

    def show(answer: Answer) -> None:
        queue = answer["queue"]
        screen = Screen(*console.size)
        above = [shortened(line, screen.columns) for line in [*head(queue), *foot(queue)]]
        jobs = choose(answer.get("jobs", []), room_for_jobs(queue, screen, len(above)))
        picture = render(queue, jobs, screen.columns, states)
        console.clear()
        for line in above:
            console.print(Text(line))
        console.print(picture)

    return show, console.height
