"""The target ``daemon``: an open queue of the machine's daemon, by its socket.

The daemon works on the queue; this process adds jobs and is told what becomes of them. One thread
for all of them holds a request that is answered when something has happened; another tells the
daemon what is to be done (DaemonSender). Both outlive a restart of the daemon.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

from runner.api.capabilities import Capabilities
from runner.api.command_result import TIMED_OUT
from runner.api.daemon_connection import DaemonConnection
from runner.api.daemon_files import DaemonFiles
from runner.api.daemon_sender import DaemonSender, batches
from runner.api.job_target import CommandOutput, JobEnd, JobListener
from runner.api.local_jobs import WORKER_MODULE, refusal_here
from runner.api.payload import PickledPayload
from runner.api.tasks import PayloadReference, Task
from runner.control.client import Client
from runner.core.states import ENDED, JobStatus
from runner.errors import NotFoundError, RunnerError, StateError, UnreachableError, UsageError
from runner.model.messages import quoted
from runner.timestamps import parse_rfc3339

HELD = 20.0
"""Seconds for which the daemon holds a request until there is something to tell."""

ASK_AGAIN = 1.0
"""Seconds after which a daemon that could not answer is asked again."""

CALL_PATIENCE = 30.0
"""Seconds for which who asks for one job waits for a daemon that is away."""


class DaemonTarget:
    """See JobTarget. ``find`` makes a client of the daemon. Raises UnreachableError where there is
    none, LockedError while another Executor has the queue, ConflictError for one that was made from
    a document.

    ``max_workers`` None: as many of its jobs run at once as the machine has processors.
    ``patience``: seconds for which a daemon that went away is waited for.
    """

    region: str | None = None
    id_prefix = ""

    def __init__(
        self,
        find: Callable[[], Client],
        queue_id: str,
        listener: JobListener,
        *,
        name: str = "daemon",
        max_workers: int | None,
        patience: float,
    ) -> None:
        self.name = name
        self.queue_id = queue_id
        self._listener = listener
        self._patience = patience
        self._token = uuid.uuid4().hex
        self._asking = DaemonConnection(find, patience)
        self._following = DaemonConnection(find, patience)
        opened = self._open(max_workers)
        self._first, self._run_id = opened["jobs_total"], opened["run_id"]
        self._after = opened["after"]
        self._files = DaemonFiles(self._asking, queue_id, opened["payloads"])
        self._lock = threading.Lock()
        self._followed: set[str] = set()
        self._started: set[str] = set()
        self._closed = self._detached = self._failed = False
        self._sender = DaemonSender(
            self._asking,
            queue_id,
            self._token,
            name=f"runner-{name}-send",
            refused=self._refuse,
            closed=self._on_closed,
            failed=self._fail,
        )
        self._follower = threading.Thread(target=self._follow, name=f"runner-{name}", daemon=True)
        self._sender.start()
        self._follower.start()

    def _open(self, most: int | None) -> dict[str, Any]:
        try:
            return self._asking.ask(
                "open_queue", queue=self.queue_id, session=self._token, most=most, patience=0.0
            )
        except BaseException as error:
            self._asking.close()
            if not isinstance(error, UsageError) or "unknown request" not in str(error):
                raise
            raise UnreachableError(
                "the daemon is of an older version, which opens no queues: restart it (its jobs go "
                "on)"
            ) from None

    # -- following ---------------------------------------------------------------------------

    def _follow(self) -> None:
        try:
            while not self._is_done():
                answer = self._ask_what_changed()
                if answer["run_id"] != self._run_id:
                    raise StateError(f"queue '{self.queue_id}' was begun anew by another program")
                for view in answer["changes"]:
                    self._tell(view)
                self._after = answer["after"]
        except Exception as error:
            if not self._is_done():
                self._fail(error)
        finally:
            self._following.close()

    def _ask_what_changed(self) -> dict[str, Any]:
        """What the daemon can't tell for now (its disk may be full) it is asked again."""
        until = time.monotonic() + self._patience
        while True:
            try:
                return self._following.ask(
                    "changes", queue=self.queue_id, after=self._after, timeout=HELD, held=HELD
                )
            except (NotFoundError, UnreachableError, UsageError):
                raise
            except RunnerError:
                if time.monotonic() > until or self._is_done():
                    raise
            time.sleep(ASK_AGAIN)

    def _is_done(self) -> bool:
        with self._lock:
            return self._detached or self._failed or (self._closed and not self._followed)

    def _end_if_done(self) -> None:
        if self._is_done():
            self._following.stop()

    def _tell(self, view: dict[str, Any]) -> None:
        job_id, status = view["job_id"], JobStatus(view["status"])
        with self._lock:
            if job_id not in self._followed:
                return
            starts = job_id not in self._started and view["attempt"] > 0
            if status in ENDED:
                self._followed.discard(job_id)
                self._started.discard(job_id)
            elif starts:
                self._started.add(job_id)
        if starts:
            self._listener.started(job_id)
        if status in ENDED:
            self._listener.ended(_end_of(view))
            self._end_if_done()

    # -- what the sender tells ---------------------------------------------------------------

    def _refuse(self, job_id: str, error: Exception) -> None:
        self._forsake(job_id)
        self._listener.refused(job_id, error)
        self._end_if_done()

    def _on_closed(self) -> None:
        with self._lock:
            self._closed = True
        self._end_if_done()

    def _fail(self, error: Exception) -> None:
        with self._lock:
            if self._failed or self._detached:
                return
            self._failed = True
        self._sender.take_back()
        self._sender.leave()
        self._asking.stop()
        self._following.stop()
        self._listener.failed(error)

    # -- jobs --------------------------------------------------------------------------------

    def refusal(self, capabilities: Capabilities, *, function: bool) -> str | None:
        """See JobTarget."""
        return refusal_here(self.name, capabilities)

    def away(self, capabilities: Capabilities, *, function: bool) -> str | None:
        """See JobTarget: a daemon that is away is waited for."""
        return None

    def region_of(self, job_id: str) -> str | None:
        """See JobControl."""
        return self.region

    def first_number(self) -> int:
        """See JobTarget."""
        return int(self._first) + 1

    def store_call(self, job_id: str, body: bytes, path: Sequence[str]) -> PayloadReference:
        """See JobTarget. Raises RunnerError."""
        return self._files.store_call(job_id, body, path)

    def add(self, task: Task) -> None:
        """See JobTarget."""
        with self._lock:
            self._followed.add(task.id)
        self._sender.add(task)

    def follow(self, job_id: str) -> None:
        """See JobTarget."""
        with self._lock:
            self._followed.add(job_id)
        try:
            found = self._asking.ask("changes", queue=self.queue_id, jobs=[job_id])["changes"]
        except BaseException:
            self._forsake(job_id)
            raise
        if not found:
            self._forsake(job_id)
            raise NotFoundError(f"there is no job {quoted(job_id)} in queue '{self.queue_id}'")
        self._tell(found[0])

    def _forsake(self, job_id: str) -> None:
        with self._lock:
            self._followed.discard(job_id)

    def cancel(self, job_id: str) -> bool:
        """See JobControl."""
        if self._take_back([job_id]):
            return True
        self._sender.wait_told(job_id)
        try:
            found = self._end([job_id], waiting=True)
        except RunnerError:
            return False
        return found.get(job_id) == JobStatus.CANCELLED.value

    def _take_back(self, job_ids: Iterable[str] | None = None) -> list[str]:
        """Those that the daemon was not told of yet: they are cancelled."""
        taken = self._sender.take_back(job_ids)
        with self._lock:
            self._followed.difference_update(taken)
        for job_id in taken:
            self._listener.ended(JobEnd(job_id, JobStatus.CANCELLED.value))
        if taken:
            self._end_if_done()
        return taken

    def _end(self, job_ids: Iterable[str], *, waiting: bool) -> dict[str, str]:
        """End them; how each of them that is there stands then. Raises RunnerError."""
        about: dict[str, Any] = {"queue": self.queue_id, "waiting": waiting}
        found: dict[str, str] = {}
        for each in batches(job_ids):
            answer = self._asking.ask("end_jobs", jobs=each, patience=CALL_PATIENCE, **about)
            found |= answer["jobs"]
        return found

    def _all_followed(self) -> list[str]:
        with self._lock:
            return list(self._followed)

    def cancel_waiting(self) -> None:
        """See JobTarget."""
        self._take_back()
        self._sender.wait_told()
        with suppress(RunnerError):
            self._end(self._all_followed(), waiting=True)

    def terminate(self, job_id: str) -> None:
        """See JobControl."""
        self._sender.order(lambda: self._end([job_id], waiting=False))

    def terminate_all(self) -> None:
        """See JobTarget."""
        self._sender.order(lambda: self._end(self._all_followed(), waiting=False))

    def status(self, job_id: str) -> str:
        """See JobControl."""
        if self._sender.holds(job_id):
            return JobStatus.PENDING.value
        about: dict[str, Any] = {"queue": self.queue_id, "jobs": [job_id]}
        try:
            found = self._asking.ask("changes", patience=CALL_PATIENCE, **about)["changes"]
        except RunnerError:
            return "unknown"
        return str(found[0]["status"]) if found else JobStatus.PENDING.value

    # -- files -------------------------------------------------------------------------------

    def logs(self, job_id: str, stream: str) -> str:
        """See JobControl. Raises RunnerError."""
        return self._files.log(job_id, stream)

    def output(self, end: JobEnd) -> CommandOutput:
        """See JobTarget."""
        return self._files.output(end)

    def result(self, end: JobEnd) -> PickledPayload | None:
        """See JobTarget. Raises RunnerError."""
        return self._files.result(end)

    def forget(self, end: JobEnd) -> None:
        """See JobTarget."""
        if end.function:
            self._sender.forget(end.job_id)

    # -- the end -----------------------------------------------------------------------------

    def close(self) -> None:
        """See JobTarget. The queue ends once all its jobs have, also those of earlier sessions."""
        self._sender.close()

    def detach(self) -> None:
        """See JobTarget. What was submitted is durable first; the queue stays open."""
        self._sender.order(self._let_go)

    def _let_go(self) -> None:
        with self._lock:
            self._detached = True
        self._following.stop()
        self._sender.leave()

    def join(self, timeout: float | None = None) -> bool:
        """See JobTarget."""
        self._follower.join(timeout)
        if self._follower.is_alive():
            return False
        self._sender.leave()
        ended = self._sender.join(timeout)
        if ended:
            self._asking.close()
        return ended


def _end_of(view: dict[str, Any]) -> JobEnd:
    """How a job ended, as the daemon tells of it."""
    return JobEnd(
        job_id=view["job_id"],
        status=TIMED_OUT if view.get("timed_out") else view["status"],
        attempt=view["attempt"],
        exit_code=view.get("exit_code"),
        signal=view.get("signal"),
        message=view.get("error_message") or view.get("reason"),
        function=WORKER_MODULE in view.get("shell", ()),
        started_at=_seconds(view.get("started_at")),
        ended_at=_seconds(view.get("completed_at")),
        result_paths=tuple(view.get("result_paths", ())),
    )


def _seconds(moment: str | None) -> float | None:
    return None if moment is None else parse_rfc3339(moment)
