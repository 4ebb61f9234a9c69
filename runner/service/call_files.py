"""The files of an open queue's calls, which whoever submits them need not be able to reach.

They belong to the user that jobs run as, and only that user reads them: everything is done with
that user's rights, and nothing that a job may have put there is followed. Owns how a file arrives
in pieces. All of it blocks. Raises ConflictError for what doesn't fit what is there, RunnerError
for what the disk refuses.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from glob import glob
from pathlib import Path

from runner.errors import ConflictError, DiskFullError, RunnerError, disk_error
from runner.files import sync_folder
from runner.model.call_names import REFUSED_SUFFIX, call_name, result_name
from runner.rights import Rights, acting_as

PIECE = 1024 * 1024
"""Bytes of a result in one answer at most."""

MOST_FILES = 10_000
"""Files that match a job's result_paths and are told of."""


class CallFiles:
    """Of one queue: ``folder`` is its folder of payloads. ``rights`` None: our own. ``shortage``:
    why the disk takes no more calls, if so: what is kept in reserve is for what runs."""

    def __init__(
        self, folder: Path, rights: Rights | None, shortage: Callable[[], str | None] = lambda: None
    ) -> None:
        self._folder = folder
        self._rights = rights
        self._shortage = shortage

    def prepare(self) -> None:
        """Make the folder, the jobs' user's alone."""
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            if self._rights is not None and os.lstat(self._folder).st_uid != self._rights.uid:
                os.lchown(self._folder, self._rights.uid, self._rights.gid)
        except OSError as error:
            raise disk_error(self._folder, error) from None

    def store(self, job_id: str, data: bytes, offset: int, *, last: bool) -> None:
        """Write a piece of a call's payload; with the ``last`` it is there, durably and whole.

        A piece may come twice. Raises ConflictError if the one before it is missing.
        """
        if (why := self._shortage()) is not None:
            raise DiskFullError(f"{self._folder}: {why}")
        where = self._folder / call_name(job_id)
        part = self._folder / f".{call_name(job_id)}.part"
        with self._acting(where):
            if offset and last and not os.path.lexists(part) and os.path.lexists(where):
                return  # it was carried out, and its answer lost
            flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
            fd = os.open(part, flags, 0o600)
            try:
                if (size := os.fstat(fd).st_size) < offset:
                    raise ConflictError(
                        f"the call of '{job_id}' has {size:,} bytes, not {offset:,}"
                    )
                os.ftruncate(fd, offset)
                if os.pwrite(fd, data, offset) < len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                if last:
                    os.fsync(fd)
            finally:
                os.close(fd)
            if last:
                os.rename(part, where)
                sync_folder(self._folder)

    def read(self, job_id: str, attempt: int, offset: int) -> tuple[str, bytes, int] | None:
        """A piece of what an attempt has left, and how many bytes that has: `result`, or `refused`
        and why; None: it has left nothing."""
        name = result_name(job_id, attempt)
        for kind, path in (("result", name), ("refused", name + REFUSED_SUFFIX)):
            where = self._folder / path
            try:
                with self._acting(where):
                    fd = os.open(where, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
            except FileNotFoundError:
                continue
            try:
                described = os.fstat(fd)
                if not stat.S_ISREG(described.st_mode):
                    raise RunnerError(f"{where}: is not a file")
                return kind, os.pread(fd, PIECE, min(offset, described.st_size)), described.st_size
            finally:
                os.close(fd)
        return None

    def forget(self, job_ids: Iterable[str]) -> None:
        """Remove the payloads of calls that are over."""
        with self._acting(self._folder):
            for job_id in job_ids:
                with suppress(FileNotFoundError):
                    os.unlink(self._folder / call_name(job_id))

    def matching(self, folder: str, patterns: Iterable[str]) -> list[str]:
        """The regular files that match, from ``folder`` on, sorted; as far as the jobs' user sees
        them."""
        with self._acting(Path(folder)):
            found = {
                os.path.join(folder, path)
                for pattern in patterns
                for path in glob(pattern, root_dir=folder, recursive=True, include_hidden=True)
            }
            return sorted(path for path in found if os.path.isfile(path))[:MOST_FILES]

    @contextmanager
    def _acting(self, where: Path) -> Iterator[None]:
        try:
            with acting_as(self._rights):
                yield
        except FileNotFoundError:
            raise
        except OSError as error:
            raise disk_error(where, error) from None
