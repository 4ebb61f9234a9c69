"""The thread of a FailoverTarget: sends what is kept, takes back what waits where all is away.

Owns the order of writing and doing. That a place has a job is written before it is given to it, and
that a job is to be taken back before that is asked for: after a crash each is where the spool says,
or was never begun.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable
from contextlib import suppress

from runner.api.capabilities import NOTHING_SAID
from runner.api.failover import Decision, RefuseCall, SendTo
from runner.api.failover_board import FailoverBoard, PlaceListener
from runner.api.failover_places import FailoverJob, FailoverPlace, JobStage, inner_id, may_pass
from runner.api.job_target import JobTarget
from runner.api.task_spool import SpooledTask, SpoolState, TaskSpool, task_for
from runner.api.tasks import FunctionTask, Task
from runner.errors import DiskError, NotFoundError, RunnerError

POLL = 0.5
"""Seconds between two looks at places that are away."""

_log = logging.getLogger("runner.executor")


class FailoverDispatch:
    """``begin`` opens the places and starts the thread, ``close`` and ``detach`` end it."""

    def __init__(self, board: FailoverBoard, spool: TaskSpool) -> None:
        self._board = board
        self._spool = spool
        self._closing = self._detaching = False
        self._still = False
        """Whether nothing is taken back any more."""
        self._seen: tuple[str, ...] = ()
        self._thread = threading.Thread(target=self._run, name="runner-failover", daemon=True)

    # -- places ------------------------------------------------------------------------------

    def begin(self) -> None:
        """Open the places. Raises what that raises where it won't pass, or where nothing is left:
        no place, and no other thing to do with jobs."""
        board = self._board
        for row in self._spool.unfinished():
            self._read(row)
        try:
            errors = [self._open(place) for place in board.places]
            if all(errors) and isinstance(self._anything(), RefuseCall):
                raise next(each for each in errors if each is not None)
        except BaseException:
            for place in board.places:
                if place.target is not None:
                    place.target.close()
                    place.target.join()
            raise
        self._thread.start()

    def _anything(self) -> Decision:
        return self._board.decide(NOTHING_SAID, time.monotonic(), function=False)

    def _read(self, row: SpooledTask) -> None:
        """A task of an earlier session."""
        assert row.task is not None
        function = isinstance(row.task, FunctionTask)
        job = FailoverJob(function, row.task.capabilities, turn=row.turn, followed=False)
        place = self._board.place(row.place)
        if row.state is SpoolState.KEPT:
            self._board.keep(row.job_id, job)
        elif place is None:
            _log.warning("job '%s' may be at %s, which this Executor hasn't", row.job_id, row.place)
        else:
            job.recalled = row.state is SpoolState.RECALLED
            place.waiting[row.job_id] = job

    def _open(self, place: FailoverPlace) -> Exception | None:
        try:
            target = place.open(PlaceListener(self._board, place))
        except Exception as error:
            if not may_pass(error):
                raise
            place.failed(error, time.monotonic())
            _log.warning("%s can't be reached, it is tried again: %s", place.name, error)
            return error
        place.opened(target)
        waiting, place.waiting = place.waiting, {}
        for job_id, job in waiting.items():
            self._recover(place, target, job_id, job)
        return None

    def _recover(
        self, place: FailoverPlace, target: JobTarget, job_id: str, job: FailoverJob
    ) -> None:
        """Find out whether a place has a job of an earlier session."""
        board, inner = self._board, inner_id(job_id, job.turn)
        if job.recalled and target.status(inner) == "cancelled":
            self._kept_again(job_id, job)
            return
        job.recalled = False
        board.at(job_id, job, place)
        try:
            target.follow(inner)
        except NotFoundError:
            if job.stage is JobStage.SENT:
                self._spool.mark(job_id, SpoolState.KEPT, None, job.turn)
                board.keep(job_id, job)

    # -- one job -----------------------------------------------------------------------------

    def send(self, job_id: str, job: FailoverJob, task: Task | None = None) -> None:
        """Give a job that is kept to the place where it goes now; nothing if there is none."""
        board, now = self._board, time.monotonic()
        with board.changed:
            if job.busy or job.stage is not JobStage.KEPT or self._detaching:
                return
            decision = board.decide(job.capabilities, now, function=job.function)
            if not isinstance(decision, SendTo):
                return
            place = board.place(decision.place)
            assert place is not None and place.target is not None
            job.busy = True
            board.at(job_id, job, place)
            place.given(now)
        try:
            self._hand_over(job_id, job, place, place.target, task)
        except Exception as error:
            self._not_sent(job_id, job, place, error)
        finally:
            with board.changed:
                job.busy = False
                board.changed.notify_all()

    def _hand_over(
        self,
        job_id: str,
        job: FailoverJob,
        place: FailoverPlace,
        target: JobTarget,
        task: Task | None,
    ) -> None:
        inner = inner_id(job_id, job.turn)
        if task is None:
            row = self._spool.find(job_id)
            assert row is not None and row.task is not None
            task = row.task
        reference = None
        if job.function:
            body, path = self._spool.call(job_id)
            reference = target.store_call(inner, body, path)
        self._spool.mark(job_id, SpoolState.SENT, place.name, job.turn)
        target.add(task_for(task, inner, reference))

    def _not_sent(
        self, job_id: str, job: FailoverJob, place: FailoverPlace, error: Exception
    ) -> None:
        """``add`` has not returned, so the place has nothing."""
        board = self._board
        if not may_pass(error):
            board.refused(place, inner_id(job_id, job.turn), error)
            return
        place.failed(error, time.monotonic())
        with suppress(RunnerError):  # else it is looked for at its place after a crash
            self._spool.mark(job_id, SpoolState.KEPT, None, job.turn)
        board.keep(job_id, job)

    def recall(self, job_id: str, job: FailoverJob) -> None:
        """Take a job back that waits at a place that is away, if another one would have it."""
        board, place = self._board, job.place
        with board.changed:
            if job.busy or job.stage is not JobStage.SENT or self._still or place is None:
                return
            now, target = time.monotonic(), place.target
            decision = board.decide(job.capabilities, now, function=job.function)
            if not isinstance(decision, SendTo) or decision.place == place.name or target is None:
                return
            job.busy = job.recalled = True
        back = False
        try:
            self._spool.mark(job_id, SpoolState.RECALLED, place.name, job.turn)
            back = target.cancel(inner_id(job_id, job.turn))
            if not back:
                self._spool.mark(job_id, SpoolState.SENT, place.name, job.turn)
        finally:
            with board.changed:
                job.recalled = False
                if back:
                    self._kept_again(job_id, job)
                job.busy = False
                board.changed.notify_all()

    def _kept_again(self, job_id: str, job: FailoverJob) -> None:
        """A place has given it back, for good: there its id is used up."""
        self._board.forget_turn(job_id, job)
        job.turn += 1
        job.recalled = False
        self._board.keep(job_id, job)
        with suppress(DiskError):  # after a crash its place would say the same again
            self._spool.mark(job_id, SpoolState.KEPT, None, job.turn)

    # -- the thread --------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._detaching and not self._is_over():
                self._wait()
                try:
                    self._step()
                except DiskError as error:
                    _log.warning("the executor's spool: %s; it is tried again", error)
                    time.sleep(POLL)  # reason: nothing tells when a disk has room again
            self._end()
        except BaseException as error:
            self._board.listener.failed(error)

    def _wait(self) -> None:
        board = self._board
        with board.changed:
            if board.begun or self._detaching:
                return
            if board.unseen:
                return
            closed = any(place.target is None for place in board.places)
            board.changed.wait(POLL if board.kept or board.sent or closed else None)

    def _step(self) -> None:
        board, now = self._board, time.monotonic()
        self._write_begun()
        for place in board.places:
            if place.opens(now):
                self._open(place)
        with board.changed:
            lost = [each for each in board.places if each.gone() is not None]
            waiting = list(board.sent.items()) if lost else []
        for job_id, job in waiting:
            if job.place in lost:
                self.recall(job_id, job)
        with board.changed:
            unseen, board.unseen = board.unseen, []
            ids = unseen if self._away(now) == self._seen else list(board.kept)
        self._send_all(ids)
        # A place that took its trial job is away until the trial is over. Were that not seen here,
        # a step that takes longer than a trial would leave the others where they are for good.
        with board.changed:
            self._seen = self._away(time.monotonic())

    def _away(self, now: float) -> tuple[str, ...]:
        """The places to which nothing is given now."""
        return tuple(each.name for each in self._board.places if each.away(now) is not None)

    def _send_all(self, ids: Iterable[str]) -> None:
        """Those for which there is a place, in this order."""
        nowhere: set[object] = set()
        for job_id in ids:
            job = self._board.kept.get(job_id)
            if job is None or self._detaching:
                continue
            if (kind := _kind(job)) in nowhere:
                continue
            self.send(job_id, job)
            if job_id in self._board.kept:
                nowhere.add(kind)

    def _write_begun(self) -> None:
        board = self._board
        with board.changed:
            begun, board.begun = board.begun, []
        if not begun:
            return
        try:
            self._spool.started(begun)
        except DiskError:
            board.begun.extend(begun)
            raise

    def _is_over(self) -> bool:
        """Whether no job will be given to a place any more."""
        board = self._board
        with board.changed:
            left = board.kept or board.sent or any(place.waiting for place in board.places)
            return self._closing and not left

    def _end(self) -> None:
        targets = [place.target for place in self._board.places if place.target is not None]
        for target in targets:
            if self._detaching:
                target.detach()
            else:
                target.close()
        for target in targets:
            target.join()
        with suppress(DiskError):  # the next session asks the places
            self._write_begun()
        self._spool.close()

    def hold_still(self) -> None:
        """Take nothing back any more; returns when nothing is being moved."""
        board = self._board
        with board.changed:
            self._still = True
            while any(job.busy for job in board.jobs.values()):
                board.changed.wait()

    def close(self) -> None:
        """End, once every job has begun somewhere. Returns at once."""
        with self._board.changed:
            self._closing = True
            self._board.changed.notify_all()

    def detach(self) -> None:
        """End now: what is kept stays in the spool. Returns at once."""
        with self._board.changed:
            self._detaching = True
            self._board.changed.notify_all()

    def join(self, timeout: float | None = None) -> bool:
        """Wait for the end; whether it has come."""
        self._thread.join(timeout)
        return not self._thread.is_alive()


def _kind(job: FailoverJob) -> object:
    """Jobs that go to the same places have the same."""
    said = job.capabilities
    needs = (said.cpus, said.memory, said.gpus, said.image, said.timeout)
    return (job.function, said.region, said.queue, said.job_definition, *needs)
