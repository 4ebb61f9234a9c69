"""Where each job of a FailoverTarget is, and what its places tell: what its threads share.

Everything here returns at once. Places are asked by others, without the lock: they tell what
becomes of their jobs in threads that wait for it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from runner.api.capabilities import Capabilities
from runner.api.command_result import CANCELLED
from runner.api.failover import Decision, decide
from runner.api.failover_places import FailoverJob, FailoverPlace, JobStage, inner_id
from runner.api.job_target import JobEnd, JobListener


class FailoverBoard:
    """``listener`` hears what the places tell, under the ids that the jobs have outside."""

    def __init__(
        self, places: Sequence[FailoverPlace], fallback: Sequence[str], listener: JobListener
    ) -> None:
        self.places = tuple(places)
        self.listener = listener
        self.changed = threading.Condition(threading.RLock())
        self.jobs: dict[str, FailoverJob] = {}
        self.kept: dict[str, FailoverJob] = {}
        self.sent: dict[str, FailoverJob] = {}
        self.unseen: list[str] = []
        """Ids of kept jobs for which no place was looked for yet."""
        self.begun: list[str] = []
        """Ids of jobs that have started, or ended, since it was last written down."""
        self._fallback = tuple(fallback)
        self._outer: dict[str, str] = {}

    def decide(self, capabilities: Capabilities, now: float | None, *, function: bool) -> Decision:
        """Where such a call goes now; ``now`` None: now or in a moment."""
        with self.changed:
            views = [each.view(capabilities, now, function=function) for each in self.places]
        return decide(views, self._fallback)

    def place(self, name: str | None) -> FailoverPlace | None:
        """The place of this name, if there is one."""
        return next((each for each in self.places if each.name == name), None)

    @contextmanager
    def settled(self, job_id: str) -> Iterator[FailoverJob | None]:
        """The job, while no other thread is about to do something with it."""
        with self.changed:
            while (job := self.jobs.get(job_id)) is not None and job.busy:
                self.changed.wait()
            yield job

    def keep(self, job_id: str, job: FailoverJob) -> None:
        """No place has it."""
        with self.changed:
            if job.place is not None:
                job.place.load -= 1
            job.stage, job.place = JobStage.KEPT, None
            self.sent.pop(job_id, None)
            self.jobs[job_id] = self.kept[job_id] = job
            self.unseen.append(job_id)
            self.changed.notify_all()

    def at(self, job_id: str, job: FailoverJob, place: FailoverPlace) -> None:
        """It is there, or is about to be."""
        with self.changed:
            self.kept.pop(job_id, None)
            self.jobs[job_id] = self.sent[job_id] = job
            job.stage, job.place = JobStage.SENT, place
            if job.turn:
                self._outer[inner_id(job_id, job.turn)] = job_id
            place.load += 1

    def forget_turn(self, job_id: str, job: FailoverJob) -> None:
        """Under the id that it has now it isn't told of any more."""
        with self.changed:
            self._outer.pop(inner_id(job_id, job.turn), None)

    def drop(self, job_id: str) -> None:
        """Nothing more will be heard of it."""
        with self.changed:
            job = self.jobs.pop(job_id, None)
            self.kept.pop(job_id, None)
            self.sent.pop(job_id, None)
            if job is not None and job.turn:
                self._outer.pop(inner_id(job_id, job.turn), None)
            self.changed.notify_all()

    # -- what places tell --------------------------------------------------------------------

    def started(self, place: FailoverPlace, told: str) -> None:
        """See JobListener."""
        with self.changed:
            job_id, job = self._told_of(place, told)
            if job is None:
                return
            self._has_begun(job_id, job)
        self.listener.started(job_id)

    def ended(self, place: FailoverPlace, end: JobEnd) -> None:
        """See JobListener. The end of a job that is being taken back is none."""
        with self.changed:
            job_id, job = self._told_of(place, end.job_id)
            if job is None:
                return
            if job.recalled and end.status == CANCELLED and end.attempt == 0:
                return
            self._has_begun(job_id, job)
            place.load -= 1
            if not job.followed:
                self.drop(job_id)
        self.listener.ended(replace(end, job_id=job_id))

    def refused(self, place: FailoverPlace, told: str, error: Exception) -> None:
        """See JobListener."""
        with self.changed:
            job_id, job = self._told_of(place, told)
            if job is None:
                return
            self._has_begun(job_id, job)
            place.load -= 1
            self.drop(job_id)
        self.listener.refused(job_id, error)

    def _told_of(self, place: FailoverPlace, told: str) -> tuple[str, FailoverJob | None]:
        """The job that a place means, if it is there still."""
        job_id = self._outer.get(told, told)
        job = self.jobs.get(job_id)
        if job is None or job.place is not place or inner_id(job_id, job.turn) != told:
            return job_id, None
        return job_id, job

    def _has_begun(self, job_id: str, job: FailoverJob) -> None:
        if job.stage is not JobStage.STARTED:
            job.stage = JobStage.STARTED
            self.sent.pop(job_id, None)
            self.begun.append(job_id)
            self.changed.notify_all()


class PlaceListener:
    """See JobListener: of one place."""

    def __init__(self, board: FailoverBoard, place: FailoverPlace) -> None:
        self._board = board
        self._place = place

    def started(self, job_id: str) -> None:
        """See JobListener."""
        self._board.started(self._place, job_id)

    def ended(self, end: JobEnd) -> None:
        """See JobListener."""
        self._board.ended(self._place, end)

    def refused(self, job_id: str, error: Exception) -> None:
        """See JobListener."""
        self._board.refused(self._place, job_id, error)

    def failed(self, error: BaseException) -> None:
        """See JobListener."""
        self._board.listener.failed(error)
