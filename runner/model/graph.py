"""Who waits for whom: order, ancestors, descendants, and the cycle that must not be.

Works on indices into the document, so that 100,000 jobs stay small. Nothing here recurses: a chain
may be as long as the document.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from heapq import heapify, heappop, heappush

from runner.model.elements import ArrayUnits
from runner.model.queue import JobSpec

_NONE: tuple[int, ...] = ()


class Graph:
    """The dependencies of a valid document's jobs, by index; each list as long as the jobs.

    An array is one job here; ``units.UnitGraph`` has its elements, and its ``arrays``.
    """

    __slots__ = ("arrays", "dependencies", "dependents", "index", "units", "waiting")

    arrays: tuple[ArrayUnits, ...]
    dependencies: Sequence[Sequence[int]]
    dependents: Sequence[Sequence[int]]

    def __init__(self, jobs: Sequence[JobSpec]) -> None:
        self.arrays = ()
        self.waiting: Mapping[int, Sequence[int]] = {}
        self.units = len(jobs)
        self.index: dict[str, int] = {job.job_id: index for index, job in enumerate(jobs)}
        self.dependencies = edges = _dependencies(jobs, self.index)
        self.dependents = _turned_round(edges)

    def grow(self, jobs: Sequence[JobSpec]) -> range:
        """These jobs come after all that are there, and may wait for any of them and for each
        other; returns their numbers. There are no arrays, here and among them."""
        first = self.units
        self.units += len(jobs)
        index, dependencies, dependents = self.index, self.dependencies, self.dependents
        assert isinstance(dependencies, list) and isinstance(dependents, list)
        for at, job in enumerate(jobs, first):
            index[job.job_id] = at
        dependents += [_NONE] * len(jobs)
        for at, job in enumerate(jobs, first):
            before = tuple([index[name] for name in job.depends_on]) if job.depends_on else _NONE
            dependencies.append(before)
            for other in before:
                if not isinstance(dependents[other], list):
                    dependents[other] = list(dependents[other])
                dependents[other].append(at)
        return range(first, self.units)

    def order(self) -> list[int]:
        """The jobs so that each comes after its dependencies, earlier ones of the document first.

        It is the order in which one job at a time runs when none fails.
        """
        waiting = array("i", map(len, self.dependencies))
        ready = [index for index, count in enumerate(waiting) if not count]
        heapify(ready)
        order = []
        while ready:
            index = heappop(ready)
            order.append(index)
            for dependent in self.dependents[index]:
                waiting[dependent] -= 1
                if not waiting[dependent]:
                    heappush(ready, dependent)
        return order

    def ancestors(self, indices: Iterable[int]) -> set[int]:
        """All that any of these depends on, directly or not (of these only what others need)."""
        return _reach(self.dependencies, indices)

    def descendants(self, indices: Iterable[int]) -> set[int]:
        """All that depends on any of these, directly or not."""
        return _reach(self.dependents, indices)


def find_cycle(jobs: Sequence[JobSpec]) -> list[str] | None:
    """The first of ``find_cycles``, or None."""
    cycles = find_cycles(jobs)
    return cycles[0] if cycles else None


def find_cycles(jobs: Sequence[JobSpec]) -> list[list[str]]:
    """One shortest cycle for each knot of jobs that wait for each other, in document order.

    A cycle is its job ids along ``depends_on``, each once, beginning with the job that comes first
    in the document. Dependencies that don't exist are passed over; of two jobs with one id the
    first counts. Takes time in proportion to the document.
    """
    index: dict[str, int] = {}
    for at, job in enumerate(jobs):
        index.setdefault(job.job_id, at)
    edges = _dependencies(jobs, index)
    if all(not after or max(after) < at for at, after in enumerate(edges)):
        return []
    knots = [knot for knot in _knots(edges) if len(knot) > 1 or knot[0] in edges[knot[0]]]
    knots.sort(key=min)
    return [[jobs[at].job_id for at in _shortest_cycle(edges, knot)] for knot in knots]


def _dependencies(jobs: Sequence[JobSpec], index: dict[str, int]) -> list[tuple[int, ...]]:
    return [
        tuple([index[name] for name in job.depends_on if name in index])
        if job.depends_on
        else _NONE
        for job in jobs
    ]


def _turned_round(edges: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
    lists: dict[int, list[int]] = {}
    for at, others in enumerate(edges):
        for other in others:
            lists.setdefault(other, []).append(at)
    return [tuple(lists.pop(at)) if at in lists else _NONE for at in range(len(edges))]


def _reach(edges: Sequence[Sequence[int]], indices: Iterable[int]) -> set[int]:
    reached: set[int] = set()
    todo = list(indices)
    while todo:
        for other in edges[todo.pop()]:
            if other not in reached:
                reached.add(other)
                todo.append(other)
    return reached


def _knots(edges: list[tuple[int, ...]]) -> list[list[int]]:
    """The strongly connected components, by Tarjan's algorithm with a stack of our own."""
    number = array("i", [0]) * len(edges)  # order of discovery from 1; 0: not seen
    low = array("i", [0]) * len(edges)
    placed = bytearray(len(edges))
    knots: list[list[int]] = []
    members: list[int] = []
    count = 0
    for root in range(len(edges)):
        if number[root]:
            continue
        path = [(root, iter(edges[root]))]
        count += 1
        number[root] = low[root] = count
        members.append(root)
        while path:
            at, others = path[-1]
            for other in others:
                if not number[other]:
                    count += 1
                    number[other] = low[other] = count
                    members.append(other)
                    path.append((other, iter(edges[other])))
                    break
                if not placed[other]:
                    low[at] = min(low[at], number[other])
            else:
                path.pop()
                if path:
                    low[path[-1][0]] = min(low[path[-1][0]], low[at])
                if low[at] == number[at]:
                    knots.append(_cut_off(members, at, placed))
    return knots


def _cut_off(members: list[int], first: int, placed: bytearray) -> list[int]:
    knot: list[int] = []
    while not knot or knot[-1] != first:
        knot.append(members.pop())
        placed[knot[-1]] = 1
    return knot


def _shortest_cycle(edges: list[tuple[int, ...]], knot: list[int]) -> list[int]:
    """The shortest way inside the knot from its first job back to it."""
    start = min(knot)
    inside = set(knot)
    came_from = {start: start}
    todo = deque([start])
    while todo:
        at = todo.popleft()
        for other in edges[at]:
            if other == start:
                way = [at]
                while way[-1] != start:
                    way.append(came_from[way[-1]])
                return way[::-1]
            if other in inside and other not in came_from:
                came_from[other] = at
                todo.append(other)
    raise AssertionError("a knot has a way round")
