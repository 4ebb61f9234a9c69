"""The port to whoever sends notices for a session."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from runner.core.notice_forms import Message
from runner.core.states import QueueStatus

Tried = Callable[[str | None, bool, bool], bool]
"""Told of each try: why it failed (None: it didn't), whether for good, and whether it is worth
waiting for the next. False: the session is over, and nobody has noted it. In any thread."""


class Courier(Protocol):
    """Who sends notices."""

    def wait(self, status: QueueStatus) -> float:
        """Seconds that a session which ends so waits for receivers."""

    def send(self, queue: str, target: str, message: Message, tried: Tried) -> None:
        """Tell a target, however often it has to be tried. Returns at once.

        ``queue``: the queue's folder. What is on its way already is not sent twice at once.
        """

    def ended(self, queue: str, results: str) -> None:
        """The queue has ended, and its results are stored there: nothing is to tell any more that
        it was lost with its machine, once it has told that itself. Returns at once."""
