"""Which earlier jobs' files an attempt finds where they were: of all that it depends on.

Owns the ancestors of jobs as the document gives them, and which elements of an array count. There
is no shared disk: what isn't declared isn't handed on.
"""

from __future__ import annotations

from runner.batch.records import OutputsOf
from runner.core.scheduler import Scheduler
from runner.core.states import JobStatus
from runner.model.elements import size_of
from runner.model.graph import Graph


class OutputsBefore:
    """Of one session. Costs nothing where no job declares a file."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._graph = Graph(())
        self._firsts: list[int] = []
        """The number of each job's first unit."""
        self._units = 0
        self._declares = False

    def _keep_up(self) -> None:
        """With what was added to the queue. An array is one job in the graph."""
        new = self._scheduler.given.jobs[len(self._firsts) :]
        for job in new:
            self._firsts.append(self._units)
            self._units += size_of(job)
            self._declares = self._declares or bool(job.result_paths or job.output_paths)
        if new:
            self._graph.grow(new)

    def of(self, job_id: str) -> tuple[OutputsOf, ...]:
        """For a job as the document gives it, in the order in which its ancestors ended: of two
        files with one path the later stands."""
        self._keep_up()
        if not self._declares:
            return ()
        found = []
        for before, whole in self._ancestors(job_id).items():
            if (outputs := self._outputs(before, whole=whole)) is not None:
                found.append((outputs[0], before, outputs[1]))
        return tuple(each for *_, each in sorted(found, key=lambda row: row[:2]))

    def _ancestors(self, job_id: str) -> dict[int, bool]:
        """Each with whether all of it is meant, or only the element with the same index."""
        graph, jobs = self._graph, self._scheduler.given.jobs
        reached: dict[int, bool] = {}
        todo = [(graph.index[job_id], False)]
        while todo:
            at, whole = todo.pop()
            array = jobs[at].array
            single = array.elementwise if array is not None and not whole else ()
            for before in graph.dependencies[at]:
                all_of_it = jobs[before].job_id not in single
                if before not in reached or (all_of_it and not reached[before]):
                    reached[before] = all_of_it
                    todo.append((before, all_of_it))
        return reached

    def _outputs(self, at: int, *, whole: bool) -> tuple[float, OutputsOf] | None:
        """When it ended, and what it left; None if that is nothing."""
        scheduler = self._scheduler
        job = scheduler.given.jobs[at]
        patterns = tuple(each.path for each in (*job.result_paths, *job.output_paths))
        if not patterns:
            return None
        folder = job.working_directory or scheduler.given.working_directory
        first = self._firsts[at]
        if job.array is None:
            state = scheduler.jobs[first]
            if state.status is not JobStatus.COMPLETED:
                return None
            return state.completed_at or 0.0, OutputsOf(job.job_id, patterns, folder)
        states = scheduler.jobs[first : first + job.array.size]
        done = [i for i, state in enumerate(states) if state.status is JobStatus.COMPLETED]
        if not done:
            return None
        ended = max(states[i].completed_at or 0.0 for i in done)
        if not whole:
            return ended, OutputsOf(job.job_id, patterns, folder, elementwise=True)
        return ended, OutputsOf(job.job_id, patterns, folder, tuple(done))
