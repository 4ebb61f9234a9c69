"""Where the output of a job is written to.

On a terminal both streams come under headings, as `tail` writes them; elsewhere each goes to its
own descriptor, byte for byte.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from runner.cli.show.text import clean


class LogOutput:
    """Writes pieces of a job's logs. ``streams``: those that were asked for."""

    def __init__(self, verb: str, streams: Sequence[str]) -> None:
        self._verb = verb
        self._both = len(streams) > 1
        self._terminal = sys.stdout.isatty()
        self._last: tuple[str, int] | None = None
        self._ended = True
        self._empty = True

    def put(self, stream: str, attempt: int, data: bytes) -> None:
        """Write a piece; an empty one leaves no trace."""
        if not data:
            return
        to_stderr = self._both and not self._terminal and stream == "stderr"
        out = sys.stderr.buffer if to_stderr else sys.stdout.buffer
        if self._both and self._terminal and self._last != (stream, attempt):
            heading = f"==> {stream}, attempt {attempt} <==\n"
            out.write((("" if self._ended else "\n") + heading).encode())
            self._last = (stream, attempt)
        self._empty = False
        out.write(data)
        out.flush()
        self._ended = data.endswith(b"\n")

    @property
    def stderr_is_free(self) -> bool:
        """Whether a word of ours on stderr stands apart from the job's own."""
        return not self._both or self._terminal or sys.stderr.isatty()

    def tell_if_nothing(self, text: str) -> None:
        """Tell a person at a terminal that nothing is missing: there was nothing."""
        if self._terminal and self._empty:
            self.tell(text)

    def note(self, text: str) -> None:
        """Tell a person how it stands, where that doesn't mix with the job's output."""
        if self.stderr_is_free:
            self.tell(text)

    def tell(self, text: str) -> None:
        """Tell what has to be told."""
        print(f"{self._verb}: {clean(text)}", file=sys.stderr, flush=True)
