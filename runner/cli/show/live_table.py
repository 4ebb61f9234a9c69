"""The live table of ``run`` and ``status --watch``: job, state, attempt, time, exit, reason.

It is drawn in a thread of its own: a terminal that is stopped (Ctrl-S) stops nothing else.
"""

from __future__ import annotations

import queue as queues
import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from rich.live import Live
from rich.text import Text

from runner.cli.show.columns import Column, Cut, fit, line, parts, shortened, wrap
from runner.cli.show.console import Console
from runner.cli.show.job_rows import elapsed, exit_of, why
from runner.cli.show.terminal import Screen
from runner.cli.show.text import clean, format_counts
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

_FRAME = 3
"""Lines besides jobs and the queue's own: the heads, how many more there are, the cursor."""

COLUMNS = (
    Column("JOB", Cut.MIDDLE, soft=24, least=12),
    Column("STATE"),
    Column("ATTEMPT", leave_out=1),
    Column("ELAPSED", leave_out=3),
    Column("EXIT", leave_out=2),
    Column("REASON", Cut.WRAP, soft=30, least=16, leave_out=4),
)
_STATE = 1

ORDER = ("running", "interrupted", "failed", "pending", "completed", "cancelled", "skipped")
"""In which order jobs are given room, when there isn't room for all."""


class LiveTable:
    """Draws the queue again twice a second, as many jobs as the terminal has room for."""

    def __init__(self, stream: Any) -> None:
        self._console = Console(stream)
        self._session: Session | None = None
        self._messages: queues.SimpleQueue[str | None] = queues.SimpleQueue()
        self._thread = threading.Thread(target=self._draw, name="table", daemon=True)
        self._last: Text | None = None

    def opened(self, session: Session) -> None:
        """See Watcher."""
        self._session = session
        self._thread.start()

    def story(self, entries: list[StoryEntry]) -> None:
        """See Watcher."""

    def say(self, message: str) -> None:
        """See Watcher."""
        if self._thread.is_alive():
            self._messages.put(message)
        else:
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
        # What came after the last picture.
        while not self._messages.empty():
            if (message := self._messages.get()) is not None:
                self._console.print(_message(message))

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

    def _picture(self) -> Text:
        from runner.service.queries import live_snapshot

        assert self._session is not None
        snapshot = live_snapshot("", self._session)
        paused = {"paused": self._session.scheduler.queue.paused}
        queue = {**snapshot.summary(), **paused}
        screen = Screen(*self._console.size)
        room = room_for_jobs(queue, screen)
        jobs = [snapshot.job(index) for index in window(snapshot, room)]
        return render(queue, jobs, screen.columns)


def _message(message: str) -> Text:
    return Text(f"runner run: {clean(message)}")


def room_for_jobs(queue: Mapping[str, Any], screen: Screen, above: int = 0) -> int:
    """How many jobs the terminal shows below so many lines and the queue's own."""
    return max(1, screen.lines - above - len(_title(queue, screen.columns)) - _FRAME)


def chosen_states(counts: Mapping[str, int]) -> list[list[str]]:
    """The states that jobs are in, in ORDER, each as what ``status`` is asked for."""
    return [[state] for state in ORDER if counts.get(state)]


def window(snapshot: Snapshot, rows: int) -> list[int]:
    """The jobs to show, in the document's order: all, or first what runs, then what matters."""
    jobs = snapshot.rows
    if len(jobs) <= rows:
        return list(jobs)
    chosen: list[int] = []
    counts = {status.value: n for status, n in snapshot.job_counts.items()}
    for (state,) in chosen_states(counts):
        status = JobStatus(state)
        if snapshot.arrays:
            found = (at for at, job in enumerate(jobs) if snapshot.status_of(job) is status)
        else:
            found = (at for at, job in enumerate(snapshot.jobs) if job.status is status)
        # No further than there are any: the last running job is seldom far down.
        chosen += islice(found, min(counts[state], rows - len(chosen)))
    return [jobs[at] for at in sorted(chosen)]


def choose(jobs: Sequence[Mapping[str, Any]], rows: int) -> list[Mapping[str, Any]]:
    """Of jobs in the document's order as many as there is room for: what matters, in that order."""
    if len(jobs) <= rows:
        return list(jobs)
    order = {state: n for n, state in enumerate(ORDER)}
    ranked = sorted(range(len(jobs)), key=lambda n: (order.get(jobs[n]["status"], 0), n))
    return [jobs[n] for n in sorted(ranked[:rows])]


def render(
    queue: Mapping[str, Any],
    jobs: Sequence[Mapping[str, Any]],
    width: int,
    states: Sequence[str] | None = None,
) -> Text:
    """The table of a summary and some of its jobs, with how many more there are.

    ``states``: only jobs in these are meant.
    """
    lines = _title(queue, width)
    rows = [_row(job) for job in jobs]
    found = fit(COLUMNS, rows, width, one_line=True)
    lines.append(Text(line(COLUMNS, found, [column.head for column in COLUMNS]), style="bold"))
    for row in rows:
        shown = Text()
        for n, part in parts(COLUMNS, found, row):
            shown.append(part, style=COLOURS.get(row[_STATE], "") if n == _STATE else "")
        shown.rstrip()
        lines.append(shown)
    if rest := _rest(queue["counts"], jobs, states):
        more = f"+{sum(rest.values()):,} more: {format_counts(rest)}"
        lines.append(Text(shortened(more, width), style="dim"))
    text = Text("\n").join(lines)
    text.no_wrap = True
    return text


def _rest(
    counts: Mapping[str, int], jobs: Iterable[Mapping[str, Any]], states: Sequence[str] | None
) -> dict[str, int]:
    """How many jobs stand where that aren't shown."""
    shown = Counter(job["status"] for job in jobs)
    meant = counts if states is None else {state: counts.get(state, 0) for state in states}
    return {state: n - shown[state] for state, n in meant.items() if n > shown[state]}


def _title(queue: Mapping[str, Any], width: int) -> list[Text]:
    status = f"{queue['status']}, paused" if queue.get("paused") else queue["status"]
    counts = format_counts(queue["counts"])
    text = f"{queue['queue_id']}: {status}" + (f" ({counts})" if counts else "")
    lines = [Text(each) for each in wrap(text, width)]
    for key in ("reason", "blocked"):
        if queue.get(key):
            lines += [Text(each, style="red") for each in wrap(clean(queue[key]), width)]
    return lines


def _row(job: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        job["job_id"],
        job["status"],
        str(job["attempt"]),
        elapsed(job),
        exit_of(job),
        clean(why(job)),
    )
