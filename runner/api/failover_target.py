"""A target of several places: regions, and what stands in for them while they are away.

Owns what an Executor asks of a target; where each job is says the board. A job is in the spool
before a place has it, and is moved only while it surely hasn't begun: a place gives it back as it
cancels a job that waits, so one whose submission is in doubt stays where it may be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from runner.api.capabilities import Capabilities
from runner.api.command_result import CANCELLED
from runner.api.failover import RefuseCall
from runner.api.failover_board import FailoverBoard
from runner.api.failover_dispatch import FailoverDispatch
from runner.api.failover_places import FailoverJob, FailoverPlace, JobStage, inner_id
from runner.api.job_errors import TargetAwayError
from runner.api.job_target import CommandOutput, JobEnd, JobListener, JobTarget
from runner.api.payload import PickledPayload
from runner.api.task_spool import TaskSpool
from runner.api.tasks import FunctionTask, PayloadReference, Task
from runner.errors import NotFoundError
from runner.model.messages import quoted


class FailoverTarget:
    """See JobTarget. ``fallback``: see ``decide``. ``spool``: a folder of its own; ``durable``: it
    outlives the process, and a power cut.

    Raises what opening a place raises, where it won't pass or nothing else is there; LockedError.
    """

    id_prefix = ""

    def __init__(
        self,
        name: str,
        places: Sequence[FailoverPlace],
        fallback: Sequence[str],
        spool: Path,
        listener: JobListener,
        *,
        durable: bool,
    ) -> None:
        self.name = name
        self.region = places[0].region
        self._listener = listener
        self._board = FailoverBoard(places, fallback, listener)
        self._spool = TaskSpool(spool, durable=durable)
        self._dispatch = FailoverDispatch(self._board, self._spool)
        try:
            self._dispatch.begin()
        except BaseException:
            self._spool.close()
            raise

    # -- jobs --------------------------------------------------------------------------------

    def refusal(self, capabilities: Capabilities, *, function: bool) -> str | None:
        """See JobTarget."""
        decision = self._board.decide(capabilities, None, function=function)
        never = isinstance(decision, RefuseCall) and not decision.away
        return decision.why if never and isinstance(decision, RefuseCall) else None

    def away(self, capabilities: Capabilities, *, function: bool) -> str | None:
        """See JobTarget."""
        decision = self._board.decide(capabilities, None, function=function)
        return decision.why if isinstance(decision, RefuseCall) else None

    def first_number(self) -> int:
        """See JobTarget."""
        known = [each.target.first_number() for each in self._board.places if each.target]
        return max([self._spool.highest() + 1, *known])

    def store_call(self, job_id: str, body: bytes, path: Sequence[str]) -> PayloadReference:
        """See JobTarget."""
        return self._spool.store_call(job_id, body, path)

    def add(self, task: Task) -> None:
        """See JobTarget. Raises DiskError; TargetAwayError where it can be kept nowhere."""
        wanted, function = task.capabilities, isinstance(task, FunctionTask)
        if (why := self.away(wanted, function=function)) is not None:
            self._spool.discard(task.id)
            raise TargetAwayError(why)
        self._spool.put(task)
        job = FailoverJob(function, wanted)
        self._board.keep(task.id, job)
        self._dispatch.send(task.id, job, task)

    def follow(self, job_id: str) -> None:
        """See JobTarget."""
        with self._board.settled(job_id) as job:
            if job is None:
                job = next(
                    (each.waiting[job_id] for each in self._board.places if job_id in each.waiting),
                    None,
                )
            if job is not None:
                job.followed = True
                if job.stage is JobStage.STARTED:
                    self._listener.started(job_id)
                return
        row = self._spool.find(job_id)
        if row is None:
            self._follow_older(job_id)
            return
        place = self._board.place(row.place)
        if place is None:
            where = f"it is at {row.place}, which this Executor hasn't"
            raise NotFoundError(f"job {quoted(job_id)} can't be followed: {where}")
        self._follow_at(
            place, job_id, FailoverJob(isinstance(row.task, FunctionTask), turn=row.turn)
        )

    def _follow_older(self, job_id: str) -> None:
        """A job of a time when its place was the whole target."""
        for place in self._board.places:
            try:
                if place.target is not None:
                    self._follow_at(place, job_id, FailoverJob(False))
                    return
            except NotFoundError:
                continue
        raise NotFoundError(f"there is no job {quoted(job_id)} of target '{self.name}'")

    def _follow_at(self, place: FailoverPlace, job_id: str, job: FailoverJob) -> None:
        if place.target is None:
            place.waiting[job_id] = job
            return
        self._board.at(job_id, job, place)
        try:
            place.target.follow(inner_id(job_id, job.turn))
        except NotFoundError:
            place.load -= 1
            self._board.drop(job_id)
            raise

    def cancel(self, job_id: str) -> bool:
        """See JobControl."""
        with self._board.settled(job_id) as job:
            if job is None:
                return False
            place = job.place
            if place is None or place.target is None:
                self._drop_kept(job_id, job)
                return True
            job.busy = True
        try:
            return place.target.cancel(inner_id(job_id, job.turn))
        finally:
            with self._board.changed:
                job.busy = False
                self._board.changed.notify_all()

    def _drop_kept(self, job_id: str, job: FailoverJob) -> None:
        """No place has it, so nothing is to be ended."""
        with self._board.changed:
            self._board.begun.append(job_id)
            self._board.drop(job_id)
        self._listener.ended(JobEnd(job_id, CANCELLED, function=job.function))

    def terminate(self, job_id: str) -> None:
        """See JobControl."""
        target, inner = self._at(job_id)
        if target is None:
            self.cancel(job_id)
        else:
            target.terminate(inner)

    def status(self, job_id: str) -> str:
        """See JobControl."""
        target, inner = self._at(job_id)
        return "pending" if target is None else target.status(inner)

    def logs(self, job_id: str, stream: str) -> str:
        """See JobControl."""
        target, inner = self._at(job_id)
        if target is None:
            raise NotFoundError(f"there is no log of job '{job_id}': it has not started")
        return target.logs(inner, stream)

    def region_of(self, job_id: str) -> str | None:
        """See JobControl."""
        job = self._board.jobs.get(job_id)
        if job is not None:
            return None if job.place is None else job.place.region
        row = self._spool.find(job_id)
        place = None if row is None else self._board.place(row.place)
        return None if place is None else place.region

    def _at(self, job_id: str) -> tuple[JobTarget | None, str]:
        """The target that has a job, and its id there."""
        job = self._board.jobs.get(job_id)
        if job is not None:
            place, turn = job.place, job.turn
        else:
            row = self._spool.find(job_id)
            place = None if row is None else self._board.place(row.place)
            turn = 0 if row is None else row.turn
        return (None if place is None else place.target), inner_id(job_id, turn)

    # -- files -------------------------------------------------------------------------------

    def result(self, end: JobEnd) -> PickledPayload | None:
        """See JobTarget."""
        target, there = self._end_there(end)
        return None if target is None else target.result(there)

    def output(self, end: JobEnd) -> CommandOutput:
        """See JobTarget."""
        target, there = self._end_there(end)
        return CommandOutput("", "", truncated=False) if target is None else target.output(there)

    def forget(self, end: JobEnd) -> None:
        """See JobTarget."""
        target, there = self._end_there(end)
        if target is not None:
            target.forget(there)
        self._board.drop(end.job_id)

    def _end_there(self, end: JobEnd) -> tuple[JobTarget | None, JobEnd]:
        target, inner = self._at(end.job_id)
        return target, replace(end, job_id=inner)

    # -- the end -----------------------------------------------------------------------------

    def cancel_waiting(self) -> None:
        """See JobTarget."""
        self._dispatch.hold_still()
        for job_id in list(self._board.kept):
            self.cancel(job_id)
        for place in self._board.places:
            if place.target is not None:
                place.target.cancel_waiting()

    def close(self) -> None:
        """See JobTarget."""
        self._dispatch.close()

    def terminate_all(self) -> None:
        """See JobTarget."""
        for job_id in list(self._board.kept):
            self.cancel(job_id)
        for place in self._board.places:
            if place.target is not None:
                place.target.terminate_all()

    def detach(self) -> None:
        """See JobTarget."""
        self._dispatch.detach()

    def join(self, timeout: float | None = None) -> bool:
        """See JobTarget."""
        return self._dispatch.join(timeout)
