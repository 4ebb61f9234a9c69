"""A way out for text that holds nobody up: a pipe that is full, or closed, stops no queue."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import TextIO

from runner.cli.streams import discard

GATHERED = 0.1
"""Seconds in which what comes is written together: the thread's waking costs more than a line."""

Text = Callable[[], str]


class Outlet:
    """Writes what it is given, in order, in a thread of its own. What can't be written is lost.

    A text is a function, called in that thread; it ends with a newline, or is empty.
    """

    def __init__(self) -> None:
        self._waiting: deque[tuple[TextIO, Text]] = deque()
        self._some = threading.Event()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="outlet", daemon=True)
        self._thread.start()

    def put(self, stream: TextIO, text: Text) -> None:
        """Have a text written; returns at once."""
        self._waiting.append((stream, text))
        if not self._some.is_set():
            self._some.set()

    def finish(self) -> None:
        """Wait until all has been written."""
        self._ending.set()
        self._some.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            self._some.wait()
            self._ending.wait(GATHERED)
            self._some.clear()
            # After clear: an end that is told before it would be wiped away with it.
            ended = self._ending.is_set()
            self._write_all()
            if ended:
                return

    def _write_all(self) -> None:
        while self._waiting:
            stream, text = self._waiting.popleft()
            texts = [text()]
            while self._waiting and self._waiting[0][0] is stream:
                texts.append(self._waiting.popleft()[1]())
            try:
                stream.write("".join(texts))
                stream.flush()
            except OSError:
                # The disk is full: the queue goes on all the same.
                discard(stream)
