"""``status`` where a copy is stored: what the copy has at once, then what the machine answers.

On a terminal the first picture is replaced by the second; elsewhere stdout gets only the last, and
stderr a line about the first.
"""

from __future__ import annotations

import queue as queues
import sys
import threading
from collections.abc import Callable
from typing import Any

from runner.cli.show.columns import shortened
from runner.cli.show.machine_source import source_told
from runner.cli.show.terminal import Screen, can_redraw, screen_of
from runner.cli.show.text import format_counts, headline
from runner.targets.port import QueueConnection

Answer = dict[str, Any]

FIRST = 2.0
"""Seconds that the stored copy has before the machine is asked."""

_ROWS_LEFT = 3
"""Lines of the terminal that a first picture leaves free: the prompt, and a line about it."""


def fetch(there: QueueConnection, states: list[str] | None, *, brief: bool) -> Answer:
    """The machine's answer, or else the stored copy's, which is shown meanwhile.

    Raises what ``query`` raises.
    """
    done: queues.SimpleQueue[tuple[str, Any]] = queues.SimpleQueue()
    picture = _Picture()
    picture.begin(f"{there.word}: asking {there.traits.sources} …")
    shown = threading.Event()

    def ask() -> Answer:
        # Each of boto3's clients is a third of a second of this process: SSM's comes after S3's.
        shown.wait(FIRST)
        return _all(there, states, brief=brief)

    def look() -> Answer | None:
        try:
            return there.stored_status(states)
        finally:
            shown.set()

    _in_thread(done, "s3", look)
    _in_thread(done, "live", ask)
    for name, found in iter(done.get, None):
        if name == "live":
            picture.remove()
            if isinstance(found, Exception):
                raise found
            answer: Answer = found
            return answer
        if isinstance(found, dict):
            picture.show(found)
    raise AssertionError


def _in_thread(
    done: queues.SimpleQueue[tuple[str, Any]], name: str, work: Callable[[], Any]
) -> None:
    def run() -> None:
        try:
            done.put((name, work()))
        except Exception as error:
            done.put((name, error))

    threading.Thread(target=run, name=f"status-{name}", daemon=True).start()


def _all(there: QueueConnection, states: list[str] | None, *, brief: bool) -> Answer:
    """All pages. If the machine goes away between two, all of them are from the stored copy."""
    jobs: list[Answer] = []
    after: int | None = 0
    answer: Answer = {}
    begun_live = None
    while after is not None:
        answer = there.query("status", after=after, status=states, brief=brief or None)
        source = answer["queue"]["source"]["from"]
        if begun_live not in (None, source):
            jobs, after, begun_live = [], 0, source
            continue
        begun_live = source
        jobs += answer["jobs"]
        after = answer.get("after")
    return {"queue": answer["queue"], "jobs": jobs}


class _Picture:
    """What is on the screen until something better comes."""

    def __init__(self) -> None:
        self._lines = 0
        self._terminal = can_redraw(sys.stdout)

    def begin(self, line: str) -> None:
        """Show at once that something is under way."""
        if self._terminal:
            self._write([line])

    def show(self, answer: Answer) -> None:
        """Show what S3 has, in no more lines than can be taken back."""
        queue = answer["queue"]
        if not self._terminal:
            text = f"{source_told(queue)}: {headline(queue)} ({format_counts(queue['counts'])})"
            print(f"runner status: {text}", file=sys.stderr, flush=True)
            return
        from runner.cli.show.queue_status import show

        screen = screen_of(sys.stdout) or Screen(80, 24)
        text = show(answer, screen, collapse=True)
        lines = [shortened(line, screen.columns - 1) for line in text.split("\n")]
        self.remove()
        # Of a long one the end is shown: the summary is there.
        self._write([*lines[-max(1, screen.lines - _ROWS_LEFT) :], "asking the machine …"])

    def _write(self, lines: list[str]) -> None:
        self._lines = len(lines)
        sys.stdout.write("\n".join(lines) + "\n")
        sys.stdout.flush()

    def remove(self) -> None:
        """Take it back (ECMA-48: CPL, ED)."""
        if self._lines:
            sys.stdout.write(f"\x1b[{self._lines}F\x1b[J")
            sys.stdout.flush()
            self._lines = 0
