"""The port between an Executor and where its jobs run.

A target takes tasks, tells a listener how they go, and keeps the files of function calls. What a
Future is, it doesn't know.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from runner.api.capabilities import Capabilities
from runner.api.future import JobControl
from runner.api.payload import PickledPayload
from runner.api.tasks import FunctionTask, PayloadReference, Task


@dataclass(frozen=True, slots=True)
class JobEnd:
    """How a job ended for good. ``status``: a job's, or `timed_out`; ``attempt``: the number of
    its last one, 0 if it never started; ``function``: whether it is a call of a function.
    ``started_at``, ``ended_at``: wall seconds, None where not known. ``result_paths``: a command's.
    """

    job_id: str
    status: str
    attempt: int = 0
    exit_code: int | None = None
    signal: str | None = None
    message: str | None = None
    function: bool = False
    started_at: float | None = None
    ended_at: float | None = None
    result_paths: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CommandOutput:
    """The end of what a command has printed, and the files it was to make."""

    stdout: str
    stderr: str
    truncated: bool
    results: tuple[str, ...] = ()


class JobListener(Protocol):
    """Who is told. All calls return at once, in any thread; of one job they come in order."""

    def started(self, job_id: str) -> None:
        """An attempt of the job runs."""

    def ended(self, end: JobEnd) -> None:
        """The job has ended, once."""

    def refused(self, job_id: str, error: Exception) -> None:
        """The job was not taken: it isn't there."""

    def failed(self, error: BaseException) -> None:
        """The target works on nothing any more; what runs goes on unwatched."""


class JobTarget(JobControl, Protocol):
    """A queue somewhere that takes jobs until it is closed. All methods may be called in any
    thread."""

    name: str

    region: str | None
    """Where an hour of a job is paid for; None: nowhere."""

    id_prefix: str
    """What stands before the number in ids of its jobs: `""`, or, where several sessions may add
    to the queue at once, what no other session has."""

    def refusal(self, capabilities: Capabilities, *, function: bool) -> str | None:
        """Why a call with these can't run here; None: it can."""

    def away(self, capabilities: Capabilities, *, function: bool) -> str | None:
        """Why such a call is not taken for now, though it could run here; None: it is."""

    def first_number(self) -> int:
        """A number above those of all jobs that the queue has had."""

    def store_call(self, job_id: str, body: bytes, path: Sequence[str]) -> PayloadReference:
        """Keep a call's payload until its job has ended. Raises OSError, DiskError."""

    def add(self, task: Task) -> None:
        """Take a job soon. It has started only once it is durable."""

    def follow(self, job_id: str) -> None:
        """Tell the listener of a job of an earlier session. Raises NotFoundError."""

    def result(self, end: JobEnd) -> PickledPayload | None:
        """What the call's last attempt has left; None: nothing. Raises PayloadError, OSError."""

    def output(self, end: JobEnd) -> CommandOutput:
        """What a command's last attempt has printed."""

    def forget(self, end: JobEnd) -> None:
        """The result was taken: what was kept for it isn't needed any more."""

    def cancel_waiting(self) -> None:
        """End all jobs that haven't started. The listener hears of each."""

    def close(self) -> None:
        """Take no more jobs; end once there is nothing left to do. Returns at once."""

    def terminate_all(self) -> None:
        """End every job. Returns at once."""

    def detach(self) -> None:
        """Let go of the queue; jobs that run go on. Returns at once."""

    def join(self, timeout: float | None = None) -> bool:
        """Wait until it has let go of everything; whether it has."""


@runtime_checkable
class ArrayTarget(JobTarget, Protocol):
    """One that takes many calls of a function as one thing: an array of jobs."""

    largest_array: int

    def add_array(self, name: str, tasks: Sequence[FunctionTask]) -> None:
        """Take these soon, which differ in ids and payloads only; the ids are those of the elements
        of array ``name``, in their order."""
