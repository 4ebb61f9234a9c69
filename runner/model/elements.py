"""Elements of arrays: what they are called, and where an array is among a queue's units.

Owns the names (``x[17]``), their form as a path (``x/17``), and how a set of indices is written
(``0-16,18``). Pure text and numbers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from runner.model.queue import JobSpec

INDEX = "{array_index}"
"""Stands in an array's paths for the element's index."""

_INDICES = re.compile(r"[0-9]{1,4}(-[0-9]{1,4})?(,[0-9]{1,4}(-[0-9]{1,4})?)*")
_ELEMENT = re.compile(r"([^\[\]]+)\[(0|[1-9][0-9]{0,3})\]")


def element_name(job_id: str, index: int) -> str:
    """``x[17]``: no job's id has brackets."""
    return f"{job_id}[{index}]"


def split_name(name: str) -> tuple[str, int | None]:
    """The job's id and the element's index in a unit's name; None for a plain job's."""
    found = _ELEMENT.fullmatch(name) if name.endswith("]") else None
    return (found[1], int(found[2])) if found else (name, None)


def which_element(job_id: str, size: int) -> str:
    """What is said where an element of an array has to be named."""
    last = f" to {element_name(job_id, size - 1)}" if size > 1 else ""
    return f"job '{job_id}' is an array: give one of its elements, {element_name(job_id, 0)}{last}"


def path_of(name: str) -> str:
    """A unit's name as a relative path: ``x/17`` for ``x[17]``, a plain job's as it is."""
    if not name.endswith("]"):
        return name
    job_id, index = split_name(name)
    return name if index is None else f"{job_id}/{index}"


def format_indices(indices: Iterable[int]) -> str:
    """Indices in ascending order as text: ``0-16,18``."""
    return format_ranges(ranges_of(indices))


def ranges_of(indices: Iterable[int]) -> list[tuple[int, int]]:
    """Indices in ascending order as ranges, both ends included."""
    ranges: list[tuple[int, int]] = []
    for index in indices:
        if ranges and ranges[-1][1] == index - 1:
            ranges[-1] = ranges[-1][0], index
        else:
            ranges.append((index, index))
    return ranges


def format_ranges(ranges: Iterable[tuple[int, int]]) -> str:
    """Ranges as text."""
    return ",".join([f"{a}" if a == b else f"{a}-{b}" for a, b in ranges])


def parse_indices(text: str) -> list[range]:
    """The inverse of ``format_indices``. Raises ValueError for what it doesn't write."""
    if not _INDICES.fullmatch(text):
        raise ValueError("is not a list of indices like 0-16,18")
    found: list[range] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        found.append(range(int(first), int(last or first) + 1))
    if any(not each for each in found) or any(a.stop > b.start for a, b in pairwise(found)):
        raise ValueError("is not in ascending order")
    return found


@dataclass(frozen=True, slots=True)
class ArrayUnits:
    """An array's place among the units: ``first`` is the number of its element 0.

    ``node`` is the number by which the graph knows the array as a whole.
    """

    job: JobSpec
    first: int
    size: int
    node: int

    @property
    def units(self) -> range:
        """The numbers of its elements."""
        return range(self.first, self.first + self.size)


def size_of(job: JobSpec) -> int:
    """How many units a job is."""
    return 1 if job.array is None else job.array.size


def unit_count(jobs: Iterable[JobSpec]) -> int:
    """How many units a document's jobs are."""
    return sum(map(size_of, jobs))


def arrays_of(jobs: Sequence[JobSpec]) -> tuple[ArrayUnits, ...]:
    """The arrays among the jobs of a document, in its order."""
    total = unit_count(jobs)
    arrays: list[ArrayUnits] = []
    first = 0
    for job in jobs:
        if job.array is not None:
            arrays.append(ArrayUnits(job, first, job.array.size, total + len(arrays)))
        first += size_of(job)
    return tuple(arrays)
