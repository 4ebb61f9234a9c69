"""Every error that a user can meet, and every exit code, by name.

Nothing here imports anything of ours: each floor above may raise these.
"""

from __future__ import annotations

import errno
import os
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


class SilentError(UnreachableError):
    """A process listens on its socket, but has given no answer in time."""


class LockedError(RunnerError):
    """Another process owns the queue or the state folder; the message names it."""


class StateError(RunnerError):
    """A stored state can't be read. It is left as it is; the message says what to do."""


class DamagedError(StateError):
    """What the disk gave is no state of ours. Trying again gives the same, until it is mended."""


class RecordError(StateError):
    """A record from a store, a disk or another process doesn't read as what it should be.

    Nothing of it is used. The message begins with the record's name.
    """


class DiskError(RunnerError):
    """The state's disk or database refused for now. Nothing of the call took effect.

    It says nothing against what is stored: the same call may succeed later, so it is tried again.
    """


class DiskFullError(DiskError):
    """There was no room, in blocks, inodes or quota (SQLITE_FULL, ENOSPC, EDQUOT)."""


class DatabaseBusyError(DiskError):
    """Another process holds the database's lock (SQLITE_BUSY, SQLITE_LOCKED)."""


class DiskFailingError(DiskError):
    """The device did not read or write (SQLITE_IOERR, EIO)."""


class ReadOnlyDiskError(DiskError):
    """The file system, or its permissions, allow no writing (SQLITE_READONLY, EROFS)."""


_DISK_ERRORS: dict[int | None, type[DiskError]] = {
    errno.ENOSPC: DiskFullError,
    errno.EDQUOT: DiskFullError,
    errno.EIO: DiskFailingError,
    errno.EROFS: ReadOnlyDiskError,
}


def disk_error(path: str | os.PathLike[str], error: OSError) -> DiskError:
    """The error to raise for one that the kernel gave for a file of the state."""
    return _DISK_ERRORS.get(error.errno, DiskError)(f"{os.fspath(path)}: {error.strerror or error}")


class ConflictError(UsageError):
    """The request contradicts what is stored: another document under the same queue_id, say."""


class EndedElsewhereError(RunnerError):
    """A queue of this id has ended in its result store, and hasn't begun here: nothing started.

    ``exit_code`` is its outcome's, ``status`` the queue's; ``state`` is the queue-state.json that
    is there, if it was read.
    """

    def __init__(self, told: str, exit_code: ExitCode, status: str, state: bytes = b"") -> None:
        super().__init__(told)
        self.exit_code = exit_code
        self.status = status
        self.state = state


class IllegalTransition(RuntimeError):
    """The scheduler was asked for a transition its table doesn't hold: a bug, told with history."""
