"""An array comes to what as many plain jobs would, with a gate behind them for what waits."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from core_driver import document, job
from hypothesis import given, settings
from hypothesis import strategies as st
from test_core_array import array

from runner.core import events as ev
from runner.core.scheduler import Scheduler
from runner.core.states import JobStatus, QueueState
from runner.model.document import JobSpec, QueueSpec
from runner.model.graph import Graph


@st.composite
def documents(draw: st.DrawFn) -> QueueSpec:
    """Plain jobs and arrays; a failure stops nothing, so that each job's fate is its own."""
    jobs: list[JobSpec] = []
    sizes: dict[str, int] = {}
    for number in range(draw(st.integers(1, 6))):
        name, size = f"j{number}", draw(st.sampled_from([0, 0, 1, 2, 3]))
        needs = [each for each in sizes if draw(st.integers(0, 2)) == 0]
        told = [
            f"{each}[]" if size and sizes[each] == size and draw(st.booleans()) else each
            for each in needs
        ]
        run_if = draw(st.sampled_from(["success", "success", "failure", "always"]))
        more = {"run_if": run_if if needs else "success", "retry": draw(st.sampled_from([None, 2]))}
        after = " ".join(told)
        jobs.append(array(name, size, after, **more) if size else job(name, after, **more))
        sizes[name] = size
    return document(*jobs, parallel=draw(st.integers(1, 9)))


def counted_out(queue: QueueSpec) -> QueueSpec:
    """The same with a plain job for each element, and all of them for who waits for an array."""
    sizes = {each.job_id: each.array.size for each in queue.jobs if each.array is not None}
    jobs: list[JobSpec] = []
    for each in queue.jobs:
        elementwise = each.array.elementwise if each.array is not None else ()
        for index in range(each.array.size if each.array is not None else 1):
            after: list[str] = []
            for name in each.depends_on:
                if name in elementwise:
                    after.append(f"{name}.{index}")
                elif name in sizes:
                    after += [f"{name}.{other}" for other in range(sizes[name])]
                else:
                    after.append(name)
            name = f"{each.job_id}.{index}" if each.array is not None else each.job_id
            jobs.append(replace(each, job_id=name, array=None, depends_on=tuple(after)))
    return replace(queue, jobs=tuple(jobs))


def outcome(queue: QueueSpec, seed: int) -> tuple[str, list[tuple[JobStatus, int]]]:
    """How it ends where chance decides on each attempt, by its unit's number."""
    core = Scheduler(queue, Graph(queue.jobs), QueueState(run_id="0123456789abcdef"))
    mono = 1000.0
    core.handle(ev.SessionOpened(ev.Now(mono, mono), "boot", False))
    core.handle(ev.SurvivorsTold(ev.Now(mono, mono)))
    while not core.finished:
        now = ev.Now(mono, mono)
        if core.live:
            unit = min(core.live)
            live = core.jobs[unit].live
            assert live is not None
            fails = Random(f"{seed}/{unit}/{live.attempt}").random() < 0.3
            core.handle(ev.AttemptEnded(now, unit, live.token, ev.Exited(int(fails))))
        else:
            due = core.next_deadline()
            assert due is not None
            mono = max(mono, due)
            core.handle(ev.TimerFired(ev.Now(mono, mono)))
    return core.queue.status.value, [(state.status, state.attempt) for state in core.jobs]


@given(documents(), st.integers(0, 2**32))
@settings(max_examples=300, deadline=None)
def test_an_array_ends_as_its_elements_would_as_jobs(queue: QueueSpec, seed: int) -> None:
    """A document would mean something else with an array than with its elements written out."""
    assert outcome(queue, seed) == outcome(counted_out(queue), seed)
