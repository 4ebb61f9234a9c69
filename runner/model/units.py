"""Units of work: what a queue's jobs come to when its arrays are counted out.

A plain job is one unit. An array of N is N units, its elements: jobs like any other, which share
with their array everything but a name (``elements``). Owns what is filled in for an element, and
who waits for whom among units. Pure; knows nothing of how they stand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from runner.model.elements import (
    INDEX,
    ArrayUnits,
    arrays_of,
    element_name,
    size_of,
)
from runner.model.graph import Graph
from runner.model.queue import JobSpec, QueueSpec


def in_units(document: QueueSpec) -> QueueSpec:
    """The same queue with its arrays counted out; the document itself if it has none."""
    if all(job.array is None for job in document.jobs):
        return document
    units: list[JobSpec] = []
    for job in document.jobs:
        if job.array is None:
            units.append(job)
        else:
            units += _elements(job)
    return replace(document, jobs=tuple(units))


def _elements(job: JobSpec) -> list[JobSpec]:
    assert job.array is not None
    shared = replace(job, array=None)
    filled = _filled(shared)
    by_element = job.array.elementwise
    elements = []
    for index in range(job.array.size):
        changes = {name: _fill(value, index) for name, value in filled.items()}
        if by_element:
            changes["depends_on"] = tuple(
                element_name(name, index) if name in by_element else name for name in job.depends_on
            )
        elements.append(replace(shared, job_id=element_name(job.job_id, index), **changes))
    return elements


def _filled(job: JobSpec) -> dict[str, Any]:
    """The fields of an array in which something is to be filled in: mostly none."""
    texts = {
        "working_directory": job.working_directory,
        "result_paths": job.result_paths,
        "checkpoint_paths": job.checkpoint_paths,
        "input_paths": job.input_paths,
        "output_paths": job.output_paths,
        "inputs": job.inputs,
    }
    return {name: value for name, value in texts.items() if _has_index(value)}


def _has_index(value: Any) -> bool:
    match value:
        case str():
            return INDEX in value
        case tuple():
            return any(map(_has_index, value))
        case None:
            return False
        case _:  # an input, or a result
            return INDEX in value.path or INDEX in getattr(value, "s3", "")


def _fill(value: Any, index: int) -> Any:
    match value:
        case str():
            return value.replace(INDEX, str(index))
        case tuple():
            return tuple([_fill(each, index) for each in value])
        case _:
            texts = {name: getattr(value, name, None) for name in ("path", "s3")}
            changes = {name: _fill(text, index) for name, text in texts.items() if text is not None}
            return replace(value, **changes)


class UnitGraph(Graph):
    """Who waits for whom among units and arrays, by number.

    An array as a whole is a node behind its elements: a number from ``len(units)`` on. Who depends
    on an array waits for that node, so that an element's end costs one look, however many wait, and
    two arrays of ten thousand, one of which waits for the other, have no hundred million edges.
    ``waiting`` has these by array, arrays among them as one.
    """

    __slots__ = ()

    def __init__(self, jobs: Sequence[JobSpec]) -> None:
        self.arrays = arrays_of(jobs)
        nodes = {array.job.job_id: array for array in self.arrays}
        units: dict[str, int] = {}
        places: dict[str, int] = {}
        number = 0
        for job in jobs:
            if (array := nodes.get(job.job_id)) is None:
                places[job.job_id] = units[job.job_id] = number
                number += 1
                continue
            places[job.job_id] = array.node
            for index, unit in enumerate(array.units):
                units[element_name(job.job_id, index)] = unit
            number += array.size
        self.units = number
        self.index = {**units, **{array.job.job_id: array.node for array in self.arrays}}
        self.dependencies = self._dependencies(jobs, places, nodes)
        self.dependents = self._dependents()
        self.waiting = _waiting(jobs, places, nodes)

    def _dependencies(
        self, jobs: Sequence[JobSpec], places: dict[str, int], nodes: dict[str, ArrayUnits]
    ) -> list[Sequence[int]]:
        found: list[Sequence[int]] = []
        for job in jobs:
            by_element = job.array.elementwise if job.array is not None else ()
            whole = tuple([places[name] for name in job.depends_on if name not in by_element])
            size = size_of(job)
            if by_element:
                firsts = [nodes[name].first for name in by_element]
                found += [(*whole, *[first + at for first in firsts]) for at in range(size)]
            else:
                found += [whole] * size
        return [*found, *(array.units for array in self.arrays)]

    def _dependents(self) -> list[Sequence[int]]:
        """The same turned round. What is told of each element of an array by its node is shared."""
        lists: dict[int, list[int]] = {}
        for at in range(self.units):
            for other in self.dependencies[at]:
                lists.setdefault(other, []).append(at)
        turned: list[Sequence[int]] = [_NONE] * len(self.dependencies)
        for array in self.arrays:
            alone = (array.node,)
            for unit in array.units:
                turned[unit] = (*alone, *lists.pop(unit)) if unit in lists else alone
        for at, others in lists.items():
            turned[at] = tuple(others)
        return turned


def _waiting(
    jobs: Sequence[JobSpec], places: dict[str, int], nodes: dict[str, ArrayUnits]
) -> dict[int, list[int]]:
    """By the node of each array the jobs that wait for it as a whole, arrays by their nodes."""
    waiting: dict[int, list[int]] = {array.node: [] for array in nodes.values()}
    for job in jobs:
        by_element = job.array.elementwise if job.array is not None else ()
        for name in job.depends_on:
            if name in nodes and name not in by_element:
                waiting[nodes[name].node].append(places[job.job_id])
    return waiting


_NONE: tuple[int, ...] = ()


def unit_graph(jobs: Sequence[JobSpec]) -> Graph:
    """The graph of a document's units."""
    return UnitGraph(jobs) if any(job.array is not None for job in jobs) else Graph(jobs)
