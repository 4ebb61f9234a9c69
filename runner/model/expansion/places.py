"""Errors of an expanded document, told at their places in the document as it was given.

Owns the way back: from a job that was written out to the one it was made of, from a field to the
``defaults`` that it came from, and to the line of a YAML file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence

from runner.model.json_reader import JOBS
from runner.model.validation_errors import Faults

_JOB = re.compile(r"jobs\[(\d+)\]((?:\.(\w+))?.*)", re.S)
_ITEM = re.compile(r"\.depends_on\[(\d+)\](.*)")
_LAST_STEP = re.compile(r"(\.[\w$-]+|\[\d+\]|\[\"(?:[^\"\\]|\\.)*\"\])$")


class GivenFaults(Faults):
    """As Faults; once ``origins`` is set, places of jobs are those of expanded ones."""

    def __init__(self, lines: Mapping[str, int] | None = None) -> None:
        super().__init__()
        self._lines = lines
        self._first: dict[str, int] = {}
        self.origins: Sequence[int] | None = None
        """For each expanded job the index of the given one."""
        self.defaults: frozenset[str] = frozenset()
        self.own_keys: Sequence[Collection[str]] = ()
        """Of each given job the keys that it has itself."""
        self.dependency: Callable[[int, int], int] = lambda job, item: item
        """Which given dependency of an expanded job an expanded one was made of."""

    def add(self, place: str, message: str, name: str = "", known: Collection[str] = ()) -> None:
        """See Faults."""
        if self.origins is not None:
            place = self._given(place)
        super().add(place, message, name, known)

    def add_given(self, place: str, message: str) -> None:
        """Note an error whose place is one of the given document."""
        super().add(place, message)

    def place_of(self, index: int) -> str:
        """See Faults."""
        return super().place_of(index if self.origins is None else self.origins[index])

    def _given(self, place: str) -> str:
        found = _JOB.match(place)
        if found is None or self.origins is None:
            return place
        index, inside, key = int(found[1]), found[2], found[3]
        given = self.origins[index]
        if key in self.defaults and key not in self.own_keys[given]:
            told = f".defaults{inside}"
        else:
            if item := _ITEM.match(inside):
                inside = f".depends_on[{self.dependency(index, int(item[1]))}]{item[2]}"
            told = f"{JOBS}[{given}]{inside}"
        self._first.setdefault(told, index)
        return told

    def _job_of(self, place: str) -> int | None:
        return self._first.get(place, None if self.origins else super()._job_of(place))

    def _shown(self, place: str) -> str:
        shown = super()._shown(place)
        if self._lines is None:
            return shown
        at = place.removeprefix(".")
        while at not in self._lines and (step := _LAST_STEP.search(at)):
            at = at[: step.start()]
        return f"line {self._lines[at]}: {shown}" if at in self._lines else shown
