"""The dependency graph: order, reach, and the cycle that is found and spelled."""

from __future__ import annotations

import graphlib
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.model.graph import Graph, find_cycle, find_cycles
from runner.model.queue import JobSpec


def jobs_of(edges: dict[str, str]) -> list[JobSpec]:
    """Jobs named by the keys, each depending on the letters of its value."""
    return [JobSpec(name, "true", 1.0, depends_on=tuple(needs)) for name, needs in edges.items()]


DIAMOND = {"a": "", "b": "a", "c": "a", "d": "bc", "e": ""}


def test_knows_both_directions() -> None:
    """The scheduler would wait for the wrong jobs, or wake the wrong ones."""
    graph = Graph(jobs_of(DIAMOND))
    assert graph.index == {"a": 0, "b": 1, "c": 2, "d": 3, "e": 4}
    assert graph.dependencies == [(), (0,), (0,), (1, 2), ()]
    assert graph.dependents == [(1, 2), (3,), (3,), (), ()]


def test_order_is_the_documents_among_ready_jobs() -> None:
    """The order shown by validate would not be the one that runs."""
    graph = Graph(jobs_of({"z": "y", "x": "", "y": "", "a": "x"}))
    assert [list(graph.index)[i] for i in graph.order()] == ["x", "y", "z", "a"]


def test_ancestors_and_descendants() -> None:
    """An update would be allowed to change what a started job needed."""
    graph = Graph(jobs_of(DIAMOND))
    assert graph.ancestors([3]) == {0, 1, 2}
    assert graph.ancestors([1, 4]) == {0}
    assert graph.ancestors([0]) == set()
    assert graph.descendants([0]) == {1, 2, 3}
    assert graph.descendants([1, 0]) == {1, 2, 3}


@pytest.mark.parametrize(
    ("edges", "cycle"),
    [
        ({"a": "", "b": "a"}, None),
        ({"b": "a", "a": ""}, None),
        ({"a": "a"}, "a"),
        ({"a": "b", "b": "a"}, "ab"),
        ({"x": "b", "b": "c", "c": "b"}, "bc"),
        ({"x": "", "a": "xb", "b": "c", "c": "da", "d": "b"}, "abc"),
        ({"p": "q", "q": "p", "a": "b", "b": "a"}, "pq"),
    ],
)
def test_cycle_begins_with_its_first_job(edges: dict[str, str], cycle: str | None) -> None:
    """The error would name jobs that are on no cycle, or begin in its middle."""
    found = find_cycle(jobs_of(edges))
    assert found == (None if cycle is None else list(cycle))


def test_every_knot_is_told_once() -> None:
    """The user would have to validate once more for each cycle."""
    edges = {"a": "b", "b": "a", "c": "a", "p": "q", "q": "r", "r": "p", "s": "s"}
    assert find_cycles(jobs_of(edges)) == [["a", "b"], ["p", "q", "r"], ["s"]]


@pytest.mark.parametrize("step", [1, -1])
def test_a_cycle_of_50_000_jobs(step: int) -> None:
    """A long cycle would overflow the stack or take minutes."""
    count = 50_000
    jobs = [JobSpec(str(i), "true", 1.0, (str((i + step) % count),)) for i in range(count)]
    found = find_cycle(jobs)
    assert found is not None and len(found) == count and found[0] == "0"


@given(st.integers(0, 2**32), st.integers(1, 12), st.integers(0, 20))
def test_agrees_with_graphlib(seed: int, count: int, edges: int) -> None:
    """An acyclic document would be refused, or a cyclic one accepted."""
    rng = random.Random(seed)
    needs: dict[int, set[int]] = {i: set() for i in range(count)}
    for _ in range(edges):
        needs[rng.randrange(count)].add(rng.randrange(count))
    jobs = [JobSpec(f"j{i}", "true", 1.0, tuple(f"j{n}" for n in sorted(needs[i]))) for i in needs]
    cycles = find_cycles(jobs)
    try:
        graphlib.TopologicalSorter(needs).prepare()
    except graphlib.CycleError:
        assert cycles
    else:
        assert not cycles
        order = Graph(jobs).order()
        assert sorted(order) == list(range(count))
        assert all(order.index(n) < order.index(i) for i in needs for n in needs[i])
    for cycle in cycles:
        numbers = [int(name[1:]) for name in cycle]
        assert numbers[0] == min(numbers)
        assert all(b in needs[a] for a, b in zip(numbers, numbers[1:] + numbers[:1], strict=True))
