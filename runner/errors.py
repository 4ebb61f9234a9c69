"""Every error that a user can meet, and every exit code, by name.

Nothing here imports anything of ours: each floor above may raise these.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum


class ExitCode(IntEnum):
    """What a command's exit status means; the same for every verb."""

    DONE = 0
    ERROR = 1
    USAGE = 2
    QUEUE_FAILED = 100
    NOT_FINISHED = 101
    NOT_FOUND = 102
    CANCELLED = 103
    INTERRUPTED = 104
    RESULTS_INCOMPLETE = 105
    UNREACHABLE = 106
    CTRL_C = 130


class RunnerError(Exception):
    """Base of all our errors: a message for the user, and the exit code it ends with."""

    exit_code = ExitCode.ERROR


class UsageError(RunnerError):
    """A flag, argument or setting is wrong. Raised before anything was touched."""

    exit_code = ExitCode.USAGE


class DocumentError(UsageError):
    """A queue document is invalid. Carries every error found, one line each, with its place."""

    def __init__(self, errors: Sequence[str]) -> None:
        super().__init__("\n".join(errors))
        self.errors = tuple(errors)


class NotFoundError(RunnerError):
    """There is no such queue, job, attempt or log."""

    exit_code = ExitCode.NOT_FOUND


class UnreachableError(RunnerError):
    """The process that owns a queue doesn't answer on its socket."""

    exit_code = ExitCode.UNREACHABLE


class LockedError(RunnerError):
    """Another process owns the queue or the state folder; the message names it."""


class StateError(RunnerError):
    """A stored state can't be read. It is left as it is; the message says what to do."""


class DiskFullError(RunnerError):
    """There was no room to store a step. Nothing of it took effect; the engine tries again."""


class ConflictError(UsageError):
    """The request contradicts what is stored: another document under the same queue_id, say."""


class IllegalTransition(RuntimeError):
    """The scheduler was asked for a transition its table doesn't hold: a bug, told with history."""
