"""Jobs that a job has expanded to: for those that wait for that job they are a part of it.

Derived from the records, kept in step with them, never stored. Owns which members of a family are
still to end, and what of them counts for those outside. A family is known by the number of the job
that expanded; its members are units like any other, and may have families themselves. Within a
family the expanding job is a dependency like any other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from runner.core.states import JobStatus
from runner.model.graph import Graph


class Families:
    """The families of one queue. ``of``: each member's; ``members``: each family's, of an array
    its elements."""

    def __init__(self, added: Mapping[str, str | None], graph: Graph) -> None:
        self.of: dict[int, int] = {}
        self.members: dict[int, list[int]] = {}
        self._open: dict[int, int] = {}
        self._over: set[int] = set()
        self._trouble: dict[int, dict[int, tuple[int, JobStatus]]] = {}
        arrays = {array.job.job_id: array.units for array in graph.arrays} if added else {}
        for job_id, parent in added.items():
            if parent is not None:
                units = arrays.get(job_id) or (graph.index[job_id],)
                self.add(graph.index[parent], units)

    def __bool__(self) -> bool:
        return bool(self.of)

    def add(self, parent: int, units: Sequence[int]) -> bool:
        """These have not ended. True if nothing of the family was to be waited for before."""
        before = self._open.get(parent, 0)
        self.members.setdefault(parent, []).extend(units)
        self._open[parent] = before + len(units)
        for unit in units:
            self.of[unit] = parent
        return not before and bool(units)

    def is_open(self, unit: int) -> bool:
        """Whether the job has expanded to others that have not ended."""
        return bool(self._open.get(unit))

    def ended(self, unit: int, by: int, status: JobStatus) -> int | None:
        """A member, with its own family, has ended so: ``by`` itself, or one of that family. The
        family that has ended with it."""
        if unit in self._over or self.is_open(unit) or (parent := self.of.get(unit)) is None:
            return None
        self._over.add(unit)
        if status in (JobStatus.FAILED, JobStatus.CANCELLED):
            self._trouble.setdefault(parent, {})[unit] = by, status
        self._open[parent] -= 1
        return parent if not self._open[parent] else None

    def begins_again(self, unit: int) -> int | None:
        """A member, or one of its family, is to be waited for again. The family that is with it."""
        if unit not in self._over:
            return None
        self._over.discard(unit)
        parent = self.of[unit]
        self._trouble.get(parent, {}).pop(unit, None)
        self._open[parent] += 1
        return parent if self._open[parent] == 1 else None

    def trouble(self, parent: int) -> tuple[int, JobStatus] | None:
        """The first job, of the family or those in it, that failed, or else was cancelled; how."""
        found = list(self._trouble.get(parent, {}).values())
        failed = [each for each in found if each[1] is JobStatus.FAILED]
        return min(failed or found, default=None)

    def outside(self, parent: int, dependents: Sequence[int]) -> list[int]:
        """Those of a job's dependents that wait for its family, too: all that are not in it."""
        of = self.of
        return [other for other in dependents if of.get(other) != parent]

    def everyone(self, parent: int) -> Iterator[int]:
        """All members, and those of their families."""
        todo = [parent]
        while todo:
            for unit in self.members.get(todo.pop(), ()):
                yield unit
                todo.append(unit)
