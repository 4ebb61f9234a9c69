"""``status`` as text: how a queue stands, and a table of its jobs that fits the screen."""

from __future__ import annotations

from itertools import islice
from typing import Any

from runner.cli.show.columns import cells_of, table, wrap
from runner.cli.show.job_rows import COLUMNS, first_failed, row, told_of_rest, waits, went_well
from runner.cli.show.terminal import Screen
from runner.cli.show.text import clean, format_counts, openness

_LABEL = 13
"""Characters of a field's name in the summary."""

_FRAME = 4
"""Lines besides summary and jobs: an empty one, the heads, the prompt, a line about it."""


def show(answer: dict[str, Any], screen: Screen | None = None, *, collapse: bool = False) -> str:
    """How the queue stands, and its jobs; below them, where they don't fit on the screen.

    ``collapse``: of so many those that need no words are only counted.
    """
    jobs = answer["jobs"]
    lines = _summary(answer["queue"], _hint(answer))
    summary = [piece for line in lines for piece in _fitting(line, screen)]
    room = screen.lines - len(summary) - _FRAME if screen else len(jobs)
    if len(jobs) <= room:
        return "\n".join([*summary, "", *_table(jobs, screen)])
    jobs, rest = _shortlist(jobs, room) if collapse else (jobs, [])
    more = [f"+{told_of_rest(rest)} (--all shows all)"] if rest else []
    return "\n".join([*_table(jobs, screen), *more, "", *summary])


def _hint(answer: dict[str, Any]) -> list[str]:
    """Where it is told why the first of the failed jobs failed."""
    queue = answer["queue"]
    on = ""
    if "source" in queue:
        name = queue.get("instance", {}).get("instance_id")
        if name is None:
            return []
        on = f" --on {name}"
    failed = (job for job in answer["jobs"] if job["status"] == "failed" and job["attempt"])
    return [f"See why:     runner logs {first_failed(job)}{on}" for job in islice(failed, 1)]


def _fitting(line: str, screen: Screen | None) -> list[str]:
    """A field in lines of the screen's width, its value below itself."""
    if screen is None or cells_of(line) <= screen.columns:
        return [line]
    lines = wrap(line[_LABEL:], screen.columns - _LABEL)
    return [line[:_LABEL] + lines[0], *(" " * _LABEL + each for each in lines[1:])]


def _shortlist(
    jobs: list[dict[str, Any]], room: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What a person should see, and the rest: what is well, and what waits beyond the room."""
    needed = sum(not went_well(job) and not waits(job) for job in jobs)
    left = max(0, room - needed)
    shown, rest = [], []
    for job in jobs:
        if went_well(job) or (waits(job) and left <= 0):
            rest.append(job)
            continue
        left -= waits(job)
        shown.append(job)
    return shown, rest


def _table(jobs: list[dict[str, Any]], screen: Screen | None) -> list[str]:
    return table(COLUMNS, map(row, jobs), screen.columns if screen else None)


def _summary(queue: dict[str, Any], hint: list[str]) -> list[str]:
    elsewhere = "source" in queue
    if elsewhere:
        from runner.cli.show import machine_source
    lines = [
        *(machine_source.head(queue) if elsewhere else ()),
        f"Queue ID:    {queue['queue_id']}",
        f"Name:        {clean(queue['queue_name'])}",
        f"Status:      {queue['status']}" + "".join(f" ({each})" for each in _marks(queue)),
    ]
    for label, key in (
        ("Reason", "reason"),
        ("Held up", "blocked"),
        ("Resumed", "resumed"),
        ("Started", "started_at"),
        ("Machine", "machine"),
        ("Updated", "updated_at"),
        ("Ended", "completed_at"),
    ):
        if queue.get(key):
            lines.append(f"{label + ':':<{_LABEL}}{clean(queue[key])}")
    lines += hint
    lines += [f"Worker:      {_worker(queue)}", f"Jobs:        {format_counts(queue['counts'])}"]
    return [*lines, *(machine_source.foot(queue) if elsewhere else ())]


def _marks(queue: dict[str, Any]) -> list[str]:
    marks = [openness(queue), "paused" if queue.get("paused") else None]
    return [each for each in marks if each is not None]


def _worker(queue: dict[str, Any]) -> str:
    if queue.get("worker"):
        return clean(queue["worker"])
    if queue.get("queued"):
        return f"none yet: it waits for {clean(queue['queued'])}"
    return "none"
