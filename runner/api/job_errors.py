"""What a Future of a job raises beside the function's own exceptions."""

from __future__ import annotations

from pickle import PicklingError

from runner.errors import RunnerError


class JobError(RunnerError):
    """A job gave no result: its process died, timed out, was ended, or could not be started.

    ``job_id``: of which job; ``status``: how it ended (`failed`, `cancelled`, `skipped`,
    `timed_out`); ``exit_status``: of its last attempt, None if it had none.
    """

    def __init__(
        self, message: str, job_id: str = "", status: str = "failed", exit_status: int | None = None
    ) -> None:
        super().__init__(message)
        self.job_id = job_id
        self.status = status
        self.exit_status = exit_status

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (str(self), self.job_id, self.status, self.exit_status)


class JobLimitError(RunnerError):
    """A job was not taken: the executor has as many as it may have."""


class TargetAwayError(RunnerError):
    """A job was not taken: nothing can be submitted for now where it is to run."""


class PayloadError(RunnerError, PicklingError):
    """A function, an argument, a result or an exception can't be packed, or not be unpacked here.

    The message names the object, or both versions of Python or cloudpickle.
    """


class RemoteTraceback(Exception):
    """The traceback of an exception as the job's process printed it: its ``__cause__`` here."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text}"""'
