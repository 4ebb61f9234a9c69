"""The Future of one job: a ``concurrent.futures.Future`` that knows its job."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any, Protocol

PENDING = "PENDING"
"""The state of a Future that nothing has happened to, as the standard library names it."""


class JobControl(Protocol):
    """What a Future asks of the target that its job is on. All may be called in any thread."""

    def region_of(self, job_id: str) -> str | None:
        """The region that the job runs in; None where there are none, or not yet."""

    def cancel(self, job_id: str) -> bool:
        """End the job if it hasn't started; whether that is so now. Blocks until it is known."""

    def terminate(self, job_id: str) -> None:
        """End the job: SIGTERM, its grace, SIGKILL. Returns at once."""

    def status(self, job_id: str) -> str:
        """Where the job stands: `pending`, `running`, `completed`, `failed`, `cancelled`, …"""

    def logs(self, job_id: str, stream: str) -> str:
        """All that its newest attempt has printed so far. Raises NotFoundError, OSError."""


class JobFuture(Future[Any]):
    """Waits for a job, in this process or, after ``Executor.attach``, in another.

    ``job_id``: unique in the executor's queue. ``region``: where it runs, None on this machine.
    """

    def __init__(self, job_id: str, control: JobControl, *, check: bool = False) -> None:
        super().__init__()
        self.job_id = job_id
        self.check = check
        self._control = control

    @property
    def region(self) -> str | None:
        """The region that the job runs in; None where there are none."""
        return self._control.region_of(self.job_id)

    def status(self) -> str:
        """Where the job stands: `pending`, `running`, `completed`, `failed`, `cancelled`, …"""
        return self._control.status(self.job_id)

    def logs(self, stream: str = "stdout") -> str:
        """What the newest attempt has printed so far, on ``stdout`` or ``stderr``.

        Raises NotFoundError if nothing is kept of it, ValueError for another stream.
        """
        if stream not in ("stdout", "stderr"):
            raise ValueError(f'the stream is "stdout" or "stderr", not {stream!r}')
        return self._control.logs(self.job_id, stream)

    def cancel(self) -> bool:
        """Have the job not run. False, and nothing happens, if it has started or is over."""
        if self.cancelled():
            return True
        if self.running() or self.done() or not self._control.cancel(self.job_id):
            return False
        return super().cancel()

    def terminate(self) -> None:
        """End the job, also one that runs: SIGTERM, `term_grace` later SIGKILL.

        A command's result then has the status `cancelled`; a function's Future raises JobError.
        """
        if not (self.done() or self.cancel()):
            self._control.terminate(self.job_id)

    def mark_cancelled(self) -> None:
        """The job was cancelled before it started, by whomever: tell all who wait."""
        super().cancel()
        if self._state == "CANCELLED":
            self.set_running_or_notify_cancel()

    def mark_running(self) -> None:
        """The job has started. Again (another attempt): nothing changes."""
        if self._state == PENDING:
            self.set_running_or_notify_cancel()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.job_id} {self._state.lower()}>"
