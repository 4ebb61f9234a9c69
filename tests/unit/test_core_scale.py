"""§7: cost per step does not grow with the number of jobs; nothing recurses."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest
from core_driver import document, job
from test_core_array import array

from runner.core import events as ev
from runner.core.scheduler import Scheduler
from runner.core.states import JobStatus, QueueState
from runner.model.document import QueueSpec
from runner.model.graph import Graph

NOW = ev.Now(1.7e9, 1000.0)


def opened(queue: QueueSpec) -> Scheduler:
    """Without the checks of every step: they look at all jobs."""
    core = Scheduler(queue, Graph(queue.jobs), QueueState(run_id="0123456789abcdef"))
    core.handle(ev.SessionOpened(NOW, "boot", False))
    core.handle(ev.SurvivorsTold(NOW))
    return core


def end(core: Scheduler, index: int, outcome: ev.Outcome) -> None:
    live = core.jobs[index].live
    assert live is not None
    core.handle(ev.AttemptEnded(NOW, index, live.token, outcome))


@contextmanager
def counted() -> Iterator[Callable[[], int]]:
    """Counts the Python lines that run: the same on a fast and on a slow machine."""
    lines = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal lines
        lines += event == "line"
        return trace

    before = sys.gettrace()
    # What other tests have left is collected now, and not while lines are counted.
    gc.collect()
    gc.disable()
    sys.settrace(trace)
    try:
        yield lambda: lines
    finally:
        sys.settrace(before)
        gc.enable()


def cost(work: Callable[[], object]) -> int:
    with counted() as lines:
        work()
    return lines()


def chain(length: int) -> QueueSpec:
    return document(*(job(f"j{n}", f"j{n - 1}" if n else "") for n in range(length)))


def test_a_step_costs_the_same_in_a_long_queue() -> None:
    """Ten thousand jobs would cost more each than a hundred."""

    def step(length: int) -> int:
        core = opened(chain(length))
        end(core, 0, ev.Exited(0))

        def work() -> None:
            end(core, 1, ev.Exited(0))
            core.next_deadline()

        return cost(work)

    assert step(5000) <= step(50) + 5


@pytest.mark.parametrize("event", ["pause", "timer", "cancel", "started", "stored"])
def test_every_other_event_costs_the_same_too(event: str) -> None:
    """A timer, or a person who pauses, would cost all jobs a look."""

    def step(length: int) -> int:
        core = opened(chain(length))
        live = core.jobs[0].live
        assert live is not None
        made: dict[str, ev.Event] = {
            "pause": ev.PauseRequested(NOW, True),
            "timer": ev.TimerFired(NOW),
            "cancel": ev.CancelRequested(NOW, (0,)),
            "started": ev.AttemptStarted(NOW, 0, live.token, 1, NOW.mono),
            "stored": ev.ResultsStored(NOW, 0, True, None),
        }
        return cost(lambda: core.handle(made[event]))

    assert step(3000) <= step(30) + 5


@pytest.mark.parametrize("run_if", ["success", "always", "failure"])
def test_a_wide_fan_in_is_linear(run_if: str) -> None:
    """A job that waits for ten thousand would cost each of them ten thousand looks."""

    def work(width: int) -> int:
        first = [job(f"j{n}") for n in range(width)]
        last = job("last", " ".join(j.job_id for j in first), run_if)
        core = opened(document(*first, last, parallel=width))

        def ends() -> None:
            for n in range(width):
                end(core, n, ev.Exited(0))

        return cost(ends)

    small, large = work(50), work(400)
    assert large <= 8.6 * small


@pytest.mark.parametrize("on_failure", ["stop", "continue"])
def test_as_many_alarms_as_jobs_are_linear(on_failure: str) -> None:
    """One failure at the head of a long chain would hold the service up for minutes."""

    def work(length: int) -> int:
        chain = [job("bad"), job("head", timeout=500.0)]
        chain += [job(f"j{n}", f"j{n - 1}" if n else "head bad") for n in range(length)]
        alarms = [job(f"alarm{n}", f"j{n}", "failure") for n in range(length)]
        more = [job("k0", "head"), *(job(f"k{n}", f"k{n - 1}") for n in range(1, length))]
        waits = [job(f"waits{n}", f"k{n}", "failure") for n in range(length)]
        jobs = [*chain, *alarms, *more, *waits]
        core = opened(document(*jobs, parallel=2, on_failure=on_failure))

        def ends() -> None:
            end(core, 0, ev.Exited(1))
            end(core, 1, ev.Exited(1))

        return cost(ends)

    small, large = work(50), work(400)
    assert large <= 8.6 * small


def test_ten_thousand_dependencies_of_one_job() -> None:
    """A wide queue would take minutes, or fail."""
    first = [job(f"j{n}") for n in range(10_000)]
    last = job("last", " ".join(j.job_id for j in first), "always")
    core = opened(document(*first, last, parallel=4))
    while core.live - {10_000}:
        end(core, min(core.live), ev.Exited(1))
    assert core.jobs[-1].status is JobStatus.RUNNING


@pytest.mark.long
@pytest.mark.parametrize("on_failure", ["stop", "continue"])
def test_a_chain_of_a_hundred_thousand_is_skipped_in_one_step(on_failure: str) -> None:
    """A long chain would exceed the recursion limit, or take quadratic time."""
    queue = chain(100_000)
    core = opened(QueueSpec("q", "q", queue.jobs, global_timeout=3600.0, on_failure=on_failure))
    end(core, 0, ev.Exited(1))
    assert core.counts == {
        JobStatus.FAILED: 1,
        JobStatus.SKIPPED: 99_999,
        JobStatus.PENDING: 0,
        JobStatus.RUNNING: 0,
    }
    assert core.finished


def test_an_elements_end_costs_the_same_in_a_long_array() -> None:
    """Ten thousand elements would cost each of them a look at all."""

    def step(size: int) -> int:
        core = opened(document(array("x", size), job("merge", "x"), job("clean", "x", "always")))
        end(core, 0, ev.Exited(0))

        def work() -> None:
            end(core, 1, ev.Exited(0))
            core.next_deadline()

        return cost(work)

    assert step(5000) <= step(50) + 5


@pytest.mark.parametrize("after", ["x", "x[]"])
def test_arrays_behind_arrays_are_linear(after: str) -> None:
    """Two arrays of ten thousand, one behind the other, would take hours."""

    def work(size: int) -> int:
        second = array("y", size, after)
        core = opened(document(array("x", size, parallel=3), second, parallel=5))

        def ends() -> None:
            while not core.finished:
                end(core, min(core.live), ev.Exited(0))

        return cost(ends)

    small, large = work(40), work(320)
    assert large <= 8.8 * small
