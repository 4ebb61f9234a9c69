"""The inside of an Executor: its targets, the Futures of their jobs, and the thread that settles
them.

Targets tell, on their own threads, what became of a job; reading a result may take long and a
Future's callbacks are the user's, so both happen in one thread of the session's own.
"""

from __future__ import annotations

import itertools
import logging
import os
import shutil
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import InvalidStateError, thread
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

from runner.api.admission import Admission
from runner.api.capabilities import Capabilities
from runner.api.executor_metrics import ExecutorMetrics
from runner.api.future import JobFuture
from runner.api.job_errors import JobError, TargetAwayError
from runner.api.job_target import ArrayTarget, JobEnd, JobTarget
from runner.api.limits import Demand, ExecutorLimits
from runner.api.outcomes import failure_fields, failure_of, value_of
from runner.api.tasks import COMMAND, FUNCTION, FunctionTask, Task
from runner.errors import NotFoundError

ON_EXIT = ("wait", "cancel", "detach")
"""What becomes of the jobs when the interpreter ends before ``shutdown``."""


_log = logging.getLogger("runner.executor")


@dataclass(slots=True)
class _Held:
    """A Future that isn't done, and the target that its job is on. ``demand``: what it counts for;
    None: it isn't counted."""

    future: JobFuture
    target: JobTarget
    demand: Demand | None = None


class ExecutorSession:
    """Of one Executor and all its views. ``open_targets`` makes the targets, which tell this
    session of their jobs; raises what they raise. ``temporary``: a folder to remove at the end.
    ``limits`` None: as many jobs as are submitted."""

    def __init__(
        self,
        open_targets: Callable[[ExecutorSession], list[JobTarget]],
        on_exit: str,
        temporary: Path | None,
        limits: ExecutorLimits | None = None,
    ) -> None:
        self.on_exit = on_exit
        self._limits = limits
        self._admission = None if limits is None else Admission(limits, self.check_open)
        self._temporary = temporary
        self.closed = False
        self._pid = os.getpid()
        self.metrics = ExecutorMetrics()
        self._lock = threading.Lock()
        self._held: dict[str, _Held] = {}
        self._news: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._broken: BaseException | None = None
        self._over = threading.Event()
        self._settler = threading.Thread(target=self._settle, name="runner-futures", daemon=True)
        self.targets = open_targets(self)
        self._numbers = itertools.count(max(each.first_number() for each in self.targets))
        self._prefix = "".join(each.id_prefix for each in self.targets)
        self._settler.start()
        _living.add(self)

    # -- submitting --------------------------------------------------------------------------

    def check_open(self) -> None:
        """Raise RuntimeError where no job is taken any more, as executors do."""
        if os.getpid() != self._pid:
            raise RuntimeError(
                f"this Executor belongs to process {self._pid}, and this is a fork of it: make an "
                "Executor here"
            )
        if self.closed:
            raise RuntimeError("cannot schedule new futures after shutdown")
        if _exiting:
            raise RuntimeError("cannot schedule new futures after interpreter shutdown")
        if self._broken is not None:
            raise JobError(f"the executor's queue is not worked on any more: {self._broken}")

    def route(self, wanted: Capabilities, *, function: bool) -> JobTarget:
        """The first target that a call with these fits. Raises ValueError with all reasons,
        TargetAwayError where it takes nothing for now."""
        refusals = []
        for target in self.targets:
            if wanted.target is not None and wanted.target != target.name:
                continue
            refusal = target.refusal(wanted, function=function)
            if refusal is not None:
                refusals.append(refusal)
                continue
            if (why := target.away(wanted, function=function)) is not None:
                raise TargetAwayError(why)
            return target
        if not refusals:
            known = ", ".join(each.name for each in self.targets)
            raise ValueError(
                f'target: there is no "{wanted.target}" in this Executor, only {known}'
            )
        raise ValueError("\n".join(refusals))

    def next_id(self, name: str) -> str:
        """An id that no job of this executor's queues has had."""
        return f"{name}-{self._prefix}{next(self._numbers)}"

    def submit(self, target: JobTarget, task: Task, *, check: bool = False) -> JobFuture:
        """Hand a task to a target, once there is room. Raises RuntimeError after shutdown,
        JobLimitError where the limit says so."""
        demand = self._admit(target, task)
        future = JobFuture(task.id, target, check=check)
        try:
            with self._lock:
                self.check_open()
                self._held[task.id] = _Held(future, target, demand)
                kind = FUNCTION if isinstance(task, FunctionTask) else COMMAND
                self.metrics.submitted(task.id, kind, time.monotonic())
                target.add(task)
        except BaseException:
            self._drop(task.id)
            raise
        return future

    @property
    def limited(self) -> bool:
        """Whether jobs wait for room one by one."""
        return self._limits is not None

    def submit_array(
        self, target: ArrayTarget, name: str, tasks: Sequence[FunctionTask]
    ) -> list[JobFuture]:
        """Hand calls to a target as the elements of one array. Raises RuntimeError after
        shutdown."""
        made = [JobFuture(task.id, target) for task in tasks]
        try:
            with self._lock:
                self.check_open()
                for future in made:
                    self._held[future.job_id] = _Held(future, target)
                    self.metrics.submitted(future.job_id, FUNCTION, time.monotonic())
                target.add_array(name, tasks)
        except BaseException:
            for future in made:
                self._drop(future.job_id)
            raise
        return made

    def _admit(self, target: JobTarget, task: Task) -> Demand | None:
        """Wait for room, and have it counted."""
        if self._limits is None or self._admission is None:
            return None
        demand = self._limits.demand(task.capabilities, free=target.region is None)
        # A callback of a Future can't wait: until it returns no other job can end.
        self._admission.enter(demand, at_once=threading.current_thread() is self._settler)
        return demand

    def _leave(self, demand: Demand | None) -> None:
        if self._admission is not None and demand is not None:
            self._admission.leave(demand)

    def _wake(self) -> None:
        if self._admission is not None:
            self._admission.wake()

    def attach(self, job_id: str) -> JobFuture:
        """A Future for a job of this queue, whoever submitted it. Raises NotFoundError."""
        with self._lock:
            self.check_open()
            held = self._held.get(job_id)
        if held is not None:
            return held.future
        for target in self.targets:
            future = JobFuture(job_id, target)
            with self._lock:
                self._held[job_id] = _Held(future, target)
            try:
                target.follow(job_id)
            except NotFoundError:
                with self._lock:
                    del self._held[job_id]
                if target is self.targets[-1]:
                    raise
                continue
            return future
        raise AssertionError("an executor has a target")

    # -- what targets tell (JobListener) -----------------------------------------------------

    def started(self, job_id: str) -> None:
        """See JobListener."""
        self.metrics.started(job_id, time.monotonic())
        self._news.put(lambda: self._start(job_id))

    def ended(self, end: JobEnd) -> None:
        """See JobListener."""
        self._news.put(lambda: self._end(end))

    def refused(self, job_id: str, error: Exception) -> None:
        """See JobListener."""
        self._news.put(lambda: self._fail(job_id, error))

    def failed(self, error: BaseException) -> None:
        """See JobListener."""
        self._broken = error
        self._wake()
        self._news.put(self._fail_all)

    # -- the thread that settles Futures -----------------------------------------------------

    def _settle(self) -> None:
        try:
            while not (self.closed and not self._held):
                news = self._news.get()
                news()
                del news  # it may hold the last reference to a result
            for target in self.targets:
                target.join()
            if self._temporary is not None:
                shutil.rmtree(self._temporary, ignore_errors=True)
            _living.discard(self)
        finally:
            self._over.set()

    def _start(self, job_id: str) -> None:
        held = self._held.get(job_id)
        if held is not None:
            held.future.mark_running()

    def _end(self, end: JobEnd) -> None:
        held = self._held.get(end.job_id)
        if held is None:
            return
        future, target = held.future, held.target
        unstarted = end.attempt == 0 and not future.running()
        if future.cancelled() or (end.status == "cancelled" and unstarted):
            outcome = "cancelled"
            future.mark_cancelled()
        else:
            future.mark_running()
            try:
                value = value_of(target, end, check=future.check)
            except BaseException as error:
                outcome = failure_of(end, error)
                # Its frames hold the Future, which would hold it; the remote ones are its cause.
                _fail(future, error.with_traceback(None))
            else:
                outcome = failure_of(end, None)
                with suppress(InvalidStateError):
                    future.set_result(value)
                del value
        self._count(target, end, outcome)
        target.forget(end)
        self._drop(end.job_id)

    def _count(self, target: JobTarget, end: JobEnd, outcome: str) -> None:
        self.metrics.ended(end.job_id, outcome, time.monotonic())
        if outcome not in ("completed", "cancelled"):
            fields = failure_fields(target, end, outcome)
            told = (end.job_id, outcome, end.message)
            _log.info("job_failed job=%s outcome=%s: %s", *told, extra=fields)

    def _fail(self, job_id: str, error: BaseException) -> None:
        held = self._held.get(job_id)
        if held is None:
            return
        future = held.future
        if future.cancelled():
            future.mark_cancelled()
        else:
            future.mark_running()
            _fail(future, error)
        end = JobEnd(job_id, "failed", message=str(error))
        self._count(held.target, end, "infrastructure")
        self._drop(job_id)

    def _fail_all(self) -> None:
        told = JobError(f"the executor's queue is not worked on any more: {self._broken}")
        told.__cause__ = self._broken
        for job_id in list(self._held):
            self._fail(job_id, told)

    def _drop(self, job_id: str) -> None:
        with self._lock:
            held = self._held.pop(job_id, None)
        if held is not None:
            self._leave(held.demand)

    # -- the end -----------------------------------------------------------------------------

    def shutdown(self, *, wait: bool, cancel_futures: bool) -> None:
        """Take no more jobs. See ``Executor.shutdown``."""
        if os.getpid() != self._pid:
            return
        with self._lock:
            self.closed = True
        self._wake()
        if cancel_futures:
            for target in self.targets:
                target.cancel_waiting()
        for target in self.targets:
            target.close()
        self._news.put(lambda: None)  # there may be nothing to wait for
        if wait:
            self.join()

    def join(self) -> None:
        """Wait for all Futures and for the targets, after ``shutdown``."""
        if threading.current_thread() is not self._settler:
            # Not Thread.join: one that Ctrl-C has interrupted takes the thread for ended ever after
            # (python/cpython, Lib/threading.py of 3.11, _wait_for_tstate_lock).
            self._over.wait()

    def leave(self) -> None:
        """The interpreter ends: wait for the jobs, end them, or let go of them."""
        if self.on_exit == "detach":
            for target in self.targets:
                target.detach()
            for target in self.targets:
                target.join()
            if self._temporary is not None:
                shutil.rmtree(self._temporary, ignore_errors=True)
            return
        if self.on_exit == "cancel":
            self._end_all()
        try:
            self.shutdown(wait=True, cancel_futures=False)
        except KeyboardInterrupt:
            self._end_all()
            self.join()

    def _end_all(self) -> None:
        with self._lock:
            self.closed = True
        self._wake()
        for target in self.targets:
            target.cancel_waiting()
            target.terminate_all()


def _fail(future: JobFuture, error: BaseException) -> None:
    """Settle a Future, unless its owner has done so by hand."""
    with suppress(InvalidStateError):
        future.set_exception(error)


_living: weakref.WeakSet[ExecutorSession] = weakref.WeakSet()
_exiting = False


def _at_exit() -> None:
    global _exiting
    _exiting = True
    for session in list(_living):
        session.leave()


def _in_child() -> None:
    """A fork has none of the threads: nothing is to be waited for there."""
    _living.clear()


# What is registered last is called first, so the threads of concurrent.futures, which the engine
# needs to its end, are told to end after this. atexit's own handlers come later still. The standard
# library's executors use this door as well.
assert thread
threading._register_atexit(_at_exit)  # type: ignore[attr-defined]
os.register_at_fork(after_in_child=_in_child)
