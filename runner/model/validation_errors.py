"""The errors found in one document, in the order they are found, and when enough is enough.

A document of 100,000 jobs can hold a million errors: the first hundred are kept, the rest counted.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import NoReturn

from runner.errors import DocumentError
from runner.model.messages import did_you_mean

KEPT = 100
GIVE_UP = 100_000

_JOB = re.compile(r"jobs\[(\d+)\](.*)")


class InvalidError(Exception):
    """A value breaks its rule. ``faults`` holds (where inside the value, message)."""

    def __init__(self, message: str = "", *, faults: list[tuple[str, str]] | None = None) -> None:
        super().__init__(message)
        self.faults = [("", message)] if faults is None else faults


class Faults:
    """Collects `place: message` lines; of several for one place the first stands."""

    def __init__(self) -> None:
        self.kept: dict[str, str] = {}
        self._count = 0

    def __bool__(self) -> bool:
        return self._count > 0

    def add(self, place: str, message: str, name: str = "", known: Collection[str] = ()) -> None:
        """Note one error; if ``name`` is given, with the nearest of the ``known`` names.

        Raises DocumentError at the hundred thousandth: nobody reads on.
        """
        if place in self.kept:
            return
        self._count += 1
        if len(self.kept) < KEPT:
            self.kept[place] = message + (did_you_mean(name, known) if name else "")
        if self._count >= GIVE_UP:
            self.fail(f"… and more errors: stopped after {GIVE_UP:,}")

    def raise_any(self, job_ids: Sequence[str] = ()) -> None:
        """Raise DocumentError if there was an error. ``job_ids``: by index, "" is not known."""
        if more := self._count - len(self.kept):
            self.fail(f"… and {more} more error{'s' if more > 1 else ''}", job_ids)
        if self:
            self.fail(job_ids=job_ids)

    def fail(self, last: str | None = None, job_ids: Sequence[str] = ()) -> NoReturn:
        """Raise DocumentError with what was found, and ``last`` below it."""
        lines = [
            f"{self._shown(place)}: {message}{self._whose(place, message, job_ids)}"
            for place, message in self.kept.items()
        ]
        raise DocumentError([*lines, last] if last else lines)

    def place_of(self, index: int) -> str:
        """What the job of this index is called in messages."""
        return f"jobs[{index}]"

    def _shown(self, place: str) -> str:
        return place.removeprefix(".") or "document"

    def _job_of(self, place: str) -> int | None:
        """The index of the job that a place is in."""
        match = _JOB.match(place)
        return None if match is None or match[2] == ".job_id" else int(match[1])

    def _whose(self, place: str, message: str, job_ids: Sequence[str]) -> str:
        """`` (job "train")``, unless the message says so: nobody counts to the eighteenth job."""
        index = self._job_of(place)
        name = job_ids[index] if index is not None and index < len(job_ids) else ""
        return f' (job "{name}")' if name and name not in message.split() else ""
