"""The live table of ``run`` and ``status --watch``: job, state, attempt, time, exit, reason.

It is drawn in a thread of its own: a terminal that is stopped (Ctrl-S) stops nothing else.
"""

from __future__ import annotations

import queue as queues
import threading
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from runner.cli.rows import elapsed, why
from runner.cli.text import clean, told
from runner.core.states import JobStatus

if TYPE_CHECKING:
    from runner.core.scheduler import StoryEntry
    from runner.service.session import Session
    from runner.service.views import Snapshot

REDRAW = 0.5
"""Seconds between two pictures."""

COLOURS = {
    "completed": "green",
    "running": "cyan",
    "failed": "red",
    "skipped": "yellow",
    "cancelled": "yellow",
    "interrupted": "magenta",
    "pending": "dim",
}

_FRAME = 6
"""Lines that are no jobs: the title, the heads, a message, the prompt."""


class LiveTable:
    """Draws the queue again twice a second, as many jobs as the terminal has room for."""

    def __init__(self, stream: Any) -> None:
        self._console = Console(file=stream, highlight=False)
        self._session: Session | None = None
        self._messages: queues.SimpleQueue[str | None] = queues.SimpleQueue()
        self._thread = threading.Thread(target=self._draw, name="table", daemon=True)
        self._last: Table | None = None

    def opened(self, session: Session) -> None:
        """See Watcher."""
        self._session = session
        self._thread.start()

    def story(self, entries: list[StoryEntry]) -> None:
        """See Watcher."""

    def say(self, message: str) -> None:
        """See Watcher."""
        self._messages.put(message)
        if not self._thread.is_alive():
            self._console.print(_message(message))

    def closed(self) -> None:
        """See Watcher. The picture of the end is drawn here: afterwards the session is shut."""
        if self._session is not None:
            self._last = self._picture()
        self._messages.put(None)

    def finish(self) -> None:
        """Wait until all is on the terminal, and the terminal as it was."""
        if self._thread.is_alive():
            self._thread.join()

    def _draw(self) -> None:
        try:
            with self._live() as live:
                while True:
                    live.update(self._last or self._picture(), refresh=True)
                    try:
                        message = self._messages.get(timeout=REDRAW)
                    except queues.Empty:
                        continue
                    if message is None:
                        live.update(self._last or self._picture(), refresh=True)
                        return
                    live.console.print(_message(message))
        except OSError:
            # The terminal is gone: the queue goes on all the same.
            pass

    def _live(self) -> Live:
        return Live(
            console=self._console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False
        )

    def _picture(self) -> Table:
        from runner.service.looks import live_snapshot

        assert self._session is not None
        snapshot = live_snapshot("", self._session)
        jobs = [snapshot.job(index) for index in window(snapshot, room(self._console))]
        paused = {"paused": self._session.scheduler.queue.paused}
        return render({**snapshot.summary(), **paused}, jobs)


def _message(message: str) -> Text:
    return Text(f"runner run: {clean(message)}")


def room(console: Console) -> int:
    """How many jobs the terminal shows."""
    return max(3, console.height - _FRAME)


def chosen_states(counts: Mapping[str, int]) -> list[list[str]]:
    """In which order jobs are given room, when there isn't room for all."""
    order = [["running"], ["interrupted"], ["failed"], ["pending"], ["completed"]]
    rest = [["cancelled"], ["skipped"]]
    return [each for each in order + rest if counts.get(each[0])]


def window(snapshot: Snapshot, rows: int) -> list[int]:
    """The jobs to show, in the document's order: all, or first what runs, then what matters."""
    total = len(snapshot.job_ids)
    if total <= rows:
        return list(range(total))
    chosen: list[int] = []
    counts = {status.value: n for status, n in snapshot.counts.items()}
    for (state,) in chosen_states(counts):
        status = JobStatus(state)
        found = (index for index, job in enumerate(snapshot.jobs) if job.status is status)
        # No further than there are any: the last running job is seldom far down.
        chosen += islice(found, min(counts[state], rows - len(chosen)))
    return sorted(chosen)


def render(queue: Mapping[str, Any], jobs: Iterable[Mapping[str, Any]]) -> Table:
    """The table of a summary and some of its jobs."""
    status = f"{queue['status']}, paused" if queue.get("paused") else queue["status"]
    title = Text(f"{queue['queue_id']}: {status} ({told(queue['counts'])})")
    for key in ("reason", "blocked"):
        if queue.get(key):
            title.append(f"\n{clean(queue[key])}", style="red")
    table = Table(title=title, title_justify="left", title_style="", box=None, pad_edge=False)
    for name in ("JOB", "STATE", "ATTEMPT", "ELAPSED", "EXIT", "REASON"):
        table.add_column(name, no_wrap=name != "REASON", overflow="ellipsis")
    for job in jobs:
        state = job["status"]
        table.add_row(
            Text(job["job_id"]),
            Text(state, style=COLOURS.get(state, "")),
            str(job["attempt"]),
            elapsed(job),
            str(job.get("exit_code", job.get("signal", "-"))),
            Text(clean(why(job))),
        )
    return table
