"""What an Executor tells its daemon: jobs to add, jobs to end, that it adds no more.

Owns the one thread that tells it, in order, and what has not been told yet. Jobs that arrive while
a request is under way go together in the next one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress

from runner.api.daemon_connection import DaemonConnection
from runner.api.local_jobs import job_of
from runner.api.tasks import FunctionTask, Task
from runner.errors import ConflictError, NotFoundError, RunnerError, UnreachableError, UsageError
from runner.model.serialization import dump_job

BATCH = 40_000
"""Bytes of jobs, or of their ids, in one request: it stays below 64 KiB unless one is longer."""


class DaemonSender:
    """``token``: the Executor's own, by which the daemon knows it again. ``refused`` is told of a
    job that was not taken, ``closed`` that the queue takes no more, ``failed`` that the daemon
    stays away; all in the sender's thread."""

    def __init__(
        self,
        connection: DaemonConnection,
        queue_id: str,
        token: str,
        *,
        name: str,
        refused: Callable[[str, Exception], None],
        closed: Callable[[], None],
        failed: Callable[[Exception], None],
    ) -> None:
        self._connection = connection
        self._queue_id = queue_id
        self._token = token
        self._refused = refused
        self._on_closed = closed
        self._failed = failed
        self._changed = threading.Condition()
        self._incoming: dict[str, Task] = {}
        self._in_flight: frozenset[str] = frozenset()
        self._orders: list[Callable[[], object]] = []
        self._forgotten: list[str] = []
        self._closing = self._closed = self._leaving = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin to tell."""
        self._thread.start()

    # -- in any thread -----------------------------------------------------------------------

    def add(self, task: Task) -> None:
        """Have a job added soon."""
        with self._changed:
            self._incoming[task.id] = task
            self._changed.notify_all()

    def take_back(self, job_ids: Iterable[str] | None = None) -> list[str]:
        """Those of these, or of all, that were not told yet: they never will be."""
        with self._changed:
            asked = list(self._incoming if job_ids is None else job_ids)
            taken = [self._incoming.pop(each) for each in asked if each in self._incoming]
            for task in taken:
                self._drop_call(task)
            self._changed.notify_all()
            return [task.id for task in taken]

    def _drop_call(self, task: Task) -> None:
        if isinstance(task, FunctionTask):
            self._forgotten.append(task.id)

    def wait_told(self, job_id: str | None = None) -> None:
        """Return once this job, or whatever was being told, has been told."""
        with self._changed:
            self._changed.wait_for(lambda: not self._is_in_flight(job_id))

    def _is_in_flight(self, job_id: str | None) -> bool:
        told = self._in_flight if self._thread.is_alive() else frozenset[str]()
        return bool(told) if job_id is None else job_id in told

    def holds(self, job_id: str) -> bool:
        """Whether the daemon may not know of the job yet."""
        with self._changed:
            return job_id in self._incoming or job_id in self._in_flight

    def order(self, order: Callable[[], object]) -> None:
        """Have something done, once all jobs that were added before it are told."""
        with self._changed:
            self._orders.append(order)
            self._changed.notify_all()

    def forget(self, job_id: str) -> None:
        """The payload of a call isn't needed any more."""
        with self._changed:
            self._forgotten.append(job_id)
            self._changed.notify_all()

    def close(self) -> None:
        """Have the queue take no more, once all jobs are told."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()

    def leave(self) -> None:
        """End once there is nothing left to tell."""
        with self._changed:
            self._leaving = True
            self._changed.notify_all()

    def join(self, timeout: float | None) -> bool:
        """Wait for the thread; whether it has ended."""
        if self._thread is not threading.current_thread():
            self._thread.join(timeout)
        return not self._thread.is_alive()

    # -- the thread --------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while self._tell_some():
                pass
        except Exception as error:
            self._failed(error)
        finally:
            with self._changed:
                self._in_flight = frozenset()
                self._changed.notify_all()

    def _tell_some(self) -> bool:
        """Tell what there is to tell; False: there will be nothing any more."""
        with self._changed:
            self._changed.wait_for(self._has_work)
            batch = self._take_batch()
            orders, forgotten = [], []
            if not self._incoming:
                orders, self._orders = self._orders, []
                forgotten, self._forgotten = self._forgotten, []
        if batch:
            self._add(batch)
        for order in orders:
            with suppress(RunnerError):  # what it is about has ended meanwhile
                order()
        for each in batches(forgotten):
            with suppress(RunnerError):
                self._connection.ask("forget_calls", queue=self._queue_id, jobs=each)
        if batch or orders or forgotten:
            return True
        if self._closing and not self._closed:
            self._close()
            return True
        return False

    def _has_work(self) -> bool:
        waits = self._closing and not self._closed
        return bool(self._incoming or self._orders or self._forgotten or waits or self._leaving)

    def _take_batch(self) -> list[Task]:
        batch: list[Task] = []
        size = 0
        for task in self._incoming.values():
            size += len(dump_job(job_of(task)))
            if batch and size > BATCH:
                break
            batch.append(task)
        for task in batch:
            del self._incoming[task.id]
        self._in_flight = frozenset(task.id for task in batch)
        return batch

    def _add(self, batch: Sequence[Task]) -> None:
        try:
            self._ask_to_add(batch)
        except UnreachableError:
            raise
        except RunnerError as error:
            if len(batch) == 1:
                asked = isinstance(error, UsageError) and not isinstance(error, ConflictError)
                self._drop_call(batch[0])
                self._refused(batch[0].id, ValueError(str(error)) if asked else error)
            else:
                for task in batch:  # one at a time, so that one alone is refused
                    self._add([task])
        finally:
            with self._changed:
                self._in_flight -= {task.id for task in batch}
                self._changed.notify_all()

    def _ask_to_add(self, batch: Sequence[Task]) -> None:
        text = ",".join(dump_job(job_of(task)) for task in batch)
        jobs = f'{{"jobs":[{text}]}}'
        self._connection.ask("add_jobs", jobs=jobs, queue=self._queue_id, session=self._token)

    def _close(self) -> None:
        with suppress(NotFoundError):
            self._connection.ask("close", queue=self._queue_id, session=self._token)
        with self._changed:
            self._closed = True
        self._on_closed()


def batches(job_ids: Iterable[str]) -> Iterator[list[str]]:
    """The same in parts that each fit into a request."""
    batch: list[str] = []
    size = 0
    for job_id in job_ids:
        size += len(job_id) + 3
        if batch and size > BATCH:
            yield batch
            batch, size = [], len(job_id) + 3
        batch.append(job_id)
    if batch:
        yield batch
