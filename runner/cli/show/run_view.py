"""Showing a run as it goes: one line an event, or a live table on a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from runner.cli.show.job_rows import duration
from runner.cli.show.outlet import Outlet
from runner.cli.show.terminal import can_redraw
from runner.cli.show.text import clean, counted
from runner.service.foreground import Watcher
from runner.timestamps import rfc3339_seconds

if TYPE_CHECKING:
    from runner.core.scheduler import StoryEntry
    from runner.service.session import Session

QUIET = {"session_opened", "attempt_intended"}
"""Events that tell a person nothing that the next one doesn't."""


class Showing(Watcher, Protocol):
    """A watcher that may still be busy when the run has ended."""

    def finish(self) -> None:
        """Wait until all has been shown."""


def watcher_for(*, json_output: bool) -> Showing:
    """The watcher that suits the terminal; with ``--json`` stdout is left to the data."""
    stream = sys.stderr if json_output else sys.stdout
    if can_redraw(stream):
        from runner.cli.show.live_table import LiveTable

        return LiveTable(stream)
    return PlainLines(stream)


class PlainLines:
    """One plain line per event; ``verb``: who says what is said besides."""

    def __init__(self, stream: TextIO, verb: str = "run") -> None:
        self._stream = stream
        self._verb = verb
        self._session: Session | None = None
        self._outlet = Outlet()

    def opened(self, session: Session) -> None:
        """See Watcher."""
        self._session = session
        queue = session.scheduler.queue
        text = f"queue {session.queue_id}: {queue.status.value}, "
        text += counted(len(session.scheduler.given.jobs), "job")
        self._outlet.put(self._stream, lambda: _stamped(time.time(), text))

    def story(self, entries: list[StoryEntry]) -> None:
        """See Watcher."""
        self._outlet.put(self._stream, lambda: self._told(entries))

    def say(self, message: str) -> None:
        """See Watcher."""
        self._outlet.put(sys.stderr, lambda: f"runner {self._verb}: {clean(message)}\n")

    def closed(self) -> None:
        """See Watcher."""

    def finish(self) -> None:
        """See Showing."""
        self._outlet.finish()

    def _told(self, entries: list[StoryEntry]) -> str:
        assert self._session is not None
        names = self._session.names
        return "".join(
            _stamped(entry.wall, line(entry, names))
            for entry in entries
            if entry.event not in QUIET
        )


def _stamped(wall: float, text: str) -> str:
    return f"{stamp(wall)} {text}\n"


def stamp(wall: float) -> str:
    """The time of a line, as the states have it: UTC, to the second."""
    return rfc3339_seconds(wall)


def line(entry: StoryEntry, names: list[str]) -> str:
    """A line of the story in words."""
    who = "queue" if entry.job is None else names[entry.job]
    return in_words(who, entry.event, entry.detail or {})


def in_words(who: str, event: str, fields: Mapping[str, Any]) -> str:
    """``train completed attempt=1 in=2.1s``; without control characters."""
    detail = dict(fields)
    what = event.removeprefix("attempt_").removeprefix("queue_").replace("_", " ")
    if (seconds := detail.pop("duration", None)) is not None:
        detail["in"] = duration(seconds)
    then = detail.pop("then", None)
    rest = " ".join(f"{name}={value}" for name, value in detail.items())
    return clean(f"{who} {what} {rest}".rstrip() + (f"; {then}" if then else ""))
