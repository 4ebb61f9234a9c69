"""What would become of a queue: the real engine on a clock of its own, and jobs that don't run.

Owns how long a job is taken to run. Nothing is written but in a folder that is gone afterwards.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from runner.core import events as ev
from runner.core.arrays import ArrayStates
from runner.core.run_mode import RunMode
from runner.core.state_file import StateFile
from runner.core.states import JobState, JobStatus, QueueState
from runner.engine.simulated_backend import AttemptPlan, SimulatedMachine
from runner.engine.virtual_time import VirtualLoop
from runner.model.document import QueueSpec
from runner.model.elements import split_name
from runner.model.settings import Settings
from runner.model.units import in_units
from runner.service.queue_repository import QueueRepository
from runner.service.session import RunContext, Session

QUEUE_ID = "simulated"
"""Of a document that names none."""

NEVER = 1e9
"""Seconds between two writings of a state that nobody reads."""

SHORTEST = 0.05
"""Part of its time that a job takes at least, where chance decides."""

FAILURES = 0.1
"""How many attempts fail where chance decides."""


@dataclass(frozen=True, slots=True)
class Assumptions:
    """``durations``: seconds that jobs are known to take, by id, of an array each element; of the
    others each takes its whole timeout. ``failing``: the jobs, or elements, whose every attempt
    fails. ``seed``: chance decides how much of
    its time each attempt takes, and that one in ten fails; the same each time."""

    durations: Mapping[str, float] = field(default_factory=dict)
    failing: Collection[str] = ()
    seed: int | None = None

    def plan(self, document: QueueSpec, job: int, attempt: int) -> AttemptPlan:
        """How an attempt goes; ``document`` is one of units."""
        described = document.jobs[job]
        job_id, _ = split_name(described.job_id)
        # It ends just before it would be ended.
        longest = described.timeout * (1 - 1e-9)
        seconds = min(self.durations.get(job_id, longest), longest)
        fails = job_id in self.failing or described.job_id in self.failing
        if self.seed is not None:
            drawn = random.Random(f"{self.seed}/{described.job_id}/{attempt}")
            seconds *= drawn.uniform(SHORTEST, 1.0)
            fails = fails or drawn.random() < FAILURES
        return AttemptPlan(seconds, ev.Exited(int(fails)))


@dataclass(frozen=True, slots=True)
class Simulated:
    """``jobs``: the records of all units. ``state``: queue-state.json as it would be in the end;
    ``seconds``: after how long."""

    queue: QueueState
    jobs: list[JobState]
    arrays: ArrayStates
    state: bytes
    began: float
    seconds: float


def durations_of(state: StateFile) -> dict[str, float]:
    """How long the jobs of a former run took that completed; of an array, an element on average."""
    found = {
        job.job_id: job.duration_seconds
        for job in state.jobs
        if job.status is JobStatus.COMPLETED and job.duration_seconds is not None
    }
    for job in state.jobs:
        if job.array is not None and (done := job.array.counts.get(JobStatus.COMPLETED.value)):
            found[job.job_id] = job.array.completed_seconds / done
    return found


def simulate(document: QueueSpec, assumptions: Assumptions) -> Simulated:
    """Let the queue run to its end. Raises RunnerError where even a temporary folder can't be."""
    # Nobody is there to release a job: it is taken to be released at once.
    # What a job would leave to expand to nobody knows.
    jobs = tuple(
        [
            replace(job, hold=False, expands=None) if job.hold or job.expands else job
            for job in document.jobs
        ]
    )
    document = replace(document, jobs=jobs)
    units = in_units(document)
    machine = SimulatedMachine(lambda job, attempt: assumptions.plan(units, job, attempt))
    began = time.time()
    before = random.getstate()
    random.seed(assumptions.seed or 0)
    loop = VirtualLoop(began)
    try:
        with tempfile.TemporaryDirectory(prefix="runner-simulate-") as folder:
            return loop.run_until_complete(_run(document, machine, Path(folder), began))
    finally:
        loop.close()
        random.setstate(before)


async def _run(
    document: QueueSpec, machine: SimulatedMachine, folder: Path, began: float
) -> Simulated:
    named = document.with_id(document.queue_id or QUEUE_ID)
    repository = QueueRepository(folder / "state", folder / "logs")
    settings = Settings(
        state_dir=repository.paths.root,
        log_dir=repository.log_dir,
        run_dir=folder,
        config_file=None,
        disk_reserve=0,
        projection_interval=NEVER,
    )
    repository.create(named, "run", anonymous=False, again=RunMode())
    context = RunContext({}, str(folder), backend=machine.backend)
    session = Session(repository, settings, str(named.queue_id), context, document=named)
    try:
        await session.run()
        scheduler, state = session.scheduler, session.engine.rendered()
    finally:
        session.close()
    # From the first start: what comes before it is the engine's own.
    first = scheduler.queue.started_at or began
    ended = scheduler.queue.completed_at or first
    return Simulated(
        scheduler.queue, list(scheduler.jobs), scheduler.arrays, state, first, ended - first
    )
