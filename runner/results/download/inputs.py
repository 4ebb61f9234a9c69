"""Fetching what a job needs from S3: each file as a whole, checked, and only if it isn't there.

Owns where a key goes below a target, what counts as being there already, and which errors are
definite. Must not know queues, threads' lives or when to try again.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from runner.aws.errors import ErrorKind
from runner.errors import RunnerError
from runner.model.document import InputSpec
from runner.model.fields import S3_SCHEME
from runner.results.concurrency import at_once
from runner.results.contained_folder import Beneath
from runner.results.download.input_record import InputRecord
from runner.results.escape import shown
from runner.results.s3.calls import S3Error
from runner.results.s3.etags import parts_of, plain_etag
from runner.results.store import Entry, StoreError
from runner.rights import Rights, acting_as

_TRIES = 3
"""Times that a file is fetched in a row when other bytes come than were stored."""

_MODE = 0o644
_PASSING_KINDS = frozenset({ErrorKind.PASSING, ErrorKind.CONFLICT, ErrorKind.EXPIRED})
_DEFINITE_ERRNOS = frozenset(
    {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EISDIR,
     errno.EEXIST, errno.ENOTEMPTY, errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ,
     errno.EFBIG, errno.ENXIO, errno.ENODEV}
)  # fmt: skip
"""What a file system says of a wrong path. All else (no room, a disk that hangs) may pass."""


class InputError(RunnerError):
    """An input can't be had, and trying again would not help."""


class CalledOff(Exception):
    """Nobody wants the inputs any more."""


class InputStore(Protocol):
    """What is asked of a bucket: see S3Store."""

    @property
    def parallel(self) -> int:
        """Files at once."""

    def look_up(self, key: str) -> Entry | None:
        """One key, or None."""

    def list(self, prefix: str) -> Iterator[Entry]:
        """All keys that begin so."""

    def get_version(self, entry: Entry, target: int, between: Callable[[], None]) -> str:
        """Write it into a file; the ETag of what came."""


@dataclass(frozen=True, slots=True)
class InputsWanted:
    """A job's inputs. ``paths`` are filled in; ``record`` is the file that remembers what came.

    So many bytes of ``reserve`` stay free on each disk; ``called_off`` ends it. ``rights``: whose
    files the inputs become, None: ours. The record is ours in any case.
    """

    paths: tuple[InputSpec, ...]
    working_directory: str
    record: Path
    reserve: int = 0
    called_off: threading.Event = field(default_factory=threading.Event)
    rights: Rights | None = None


def fill(path: InputSpec, queue_id: str, job_id: str) -> InputSpec:
    """The input with its placeholders filled in."""

    def filled(text: str) -> str:
        return text.replace("{queue_id}", queue_id).replace("{job_id}", job_id)

    return InputSpec(filled(path.s3), filled(path.path))


def fetch_inputs(store_of: Callable[[str], InputStore], wanted: InputsWanted) -> int:
    """Have all inputs where they belong; returns how many files came, others were there already.

    ``store_of`` gives a bucket's store. Raises InputError where it can't be done; StoreError
    where trying again may help; CalledOff.
    """
    record = InputRecord(wanted.record, wanted.rights)
    count = 0
    try:
        for path in wanted.paths:
            bucket, _, key = path.s3.removeprefix(S3_SCHEME).partition("/")
            try:
                count += _Fetch(store_of(bucket), path, key, wanted, record).run()
            except OSError as error:
                raise _told(error, path) from error
            except S3Error as error:
                if _passes(error):
                    raise
                raise InputError(f"input {error}") from error
    finally:
        record.save()
    return count


def _passes(error: Exception) -> bool:
    """Whether trying again may help."""
    if isinstance(error, S3Error):
        return error.kind in _PASSING_KINDS
    if isinstance(error, OSError):
        return error.errno not in _DEFINITE_ERRNOS
    return isinstance(error, StoreError)


def _told(error: OSError, path: InputSpec) -> RunnerError:
    name = error.filename
    place = shown(os.fsdecode(name)) if isinstance(name, str | bytes) else shown(path.path)
    text = f"{place} can't be written: {error.strerror or error}"
    return StoreError(text) if _passes(error) else InputError(f"input {path.s3}: {text}")


class _Fetch:
    """One input of a job."""

    def __init__(
        self,
        store: InputStore,
        path: InputSpec,
        key: str,
        wanted: InputsWanted,
        record: InputRecord,
    ) -> None:
        self._store = store
        self._path = path
        self._key = key
        self._wanted = wanted
        self._record = record
        self._is_prefix = not key or key.endswith("/")
        base = wanted.working_directory
        with acting_as(wanted.rights):
            if not os.path.isabs(path.path) and not os.path.isdir(base):
                raise InputError(f"working directory {base} does not exist")
        self._target = os.path.join(base, path.path)
        in_folder = path.path.endswith("/")
        self._root = self._target if in_folder else os.path.dirname(self._target)
        self._over = threading.Event()
        self._error: Exception | None = None
        self._lock = threading.Lock()
        self._folders: dict[str, bytes] = {}
        self._opened: Beneath | None = None

    def run(self) -> int:
        """Have it all there; how many files came. What is under way when one fails is finished,
        if only that may pass; of what can't be had no more is fetched."""
        try:
            return self._run()
        finally:
            if self._opened is not None:
                self._opened.close()

    def _run(self) -> int:
        with ThreadPoolExecutor(self._store.parallel, thread_name_prefix="inputs") as pool:
            try:
                count = sum(at_once(pool, self._try, self._plan(), 2 * self._store.parallel))
            except BaseException as error:
                self._over.set()  # or the pool would wait until the other files are there
                raise self._error or error from None
        if self._error is not None:
            raise self._error
        for below in self._folders.values():
            self._open().sync_folder(below)
        return count

    def _try(self, item: tuple[Entry, str]) -> int:
        if self._error is not None:
            return 0
        try:
            return self._have(*item)
        except CalledOff:
            raise
        except Exception as error:
            passes = _passes(error)
            if self._error is None or not passes:
                self._error = error
            if not passes:
                self._over.set()
            return 0

    def _plan(self) -> Iterator[tuple[Entry, str]]:
        """Every key with the path it goes to."""
        if not self._is_prefix:
            entry = self._store.look_up(self._key)
            if entry is None:
                raise InputError(f"input {self._path.s3}: there is no such key")
            if not self._path.path.endswith("/"):
                yield entry, self._target
            else:
                yield entry, self._below(entry, self._key.rpartition("/")[2])
            return
        empty = True
        for entry in self._store.list(self._key):
            empty = False
            self._check()
            if self._error is not None:
                return
            yield entry, self._below(entry, entry.key[len(self._key) :])
        if empty:
            raise InputError(f"input {self._path.s3}: there is nothing below it")

    def _below(self, entry: Entry, name: str) -> str:
        """Where a key goes in the folder. No key leads out of it."""
        if "\0" in name or any(part in ("", ".", "..") for part in name.split("/")):
            where = f"the key {shown(entry.key)}"
            raise InputError(f"input {self._path.s3}: {where} can't be a path in a folder")
        return os.path.join(self._root, name)

    def _check(self) -> None:
        if self._wanted.called_off.is_set() or self._over.is_set():
            raise CalledOff

    def _have(self, entry: Entry, path: str) -> int:
        """Have one file there; 1 if it had to be fetched."""
        self._check()
        folder = self._enter(os.path.dirname(path))
        below = os.path.join(folder, os.fsencode(os.path.basename(path)))
        if self._record.knows(path, entry) or self._holds(below, entry):
            self._record.note(path, entry)
            return 0
        taken = {entry.etag}
        for _ in range(_TRIES):
            etag = self._fetch(entry, path, below, taken)
            if etag in taken:
                self._record.note(path, entry)
                return 1
            if parts_of(entry.etag):
                # Parts may be of any size: what comes the same twice is what is stored.
                taken.add(etag)
        where = f"{self._path.s3}: {shown(entry.key)}"
        raise StoreError(f"{where} came with other bytes than were stored")

    def _holds(self, below: bytes, entry: Entry) -> bool:
        """Whether a file that nobody has a record of holds these bytes: reading it costs less."""
        if parts_of(entry.etag) != 0:
            return False
        try:
            fd = self._open().open_file(below)
        except OSError:
            return False
        try:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode) or found.st_size != entry.size:
                return False
            return plain_etag(fd, self._check) == entry.etag
        except OSError:
            return False
        finally:
            os.close(fd)

    def _fetch(self, entry: Entry, path: str, below: bytes, taken: set[str]) -> str:
        """Fetch it; the ETag of what came: it is only put in place if it is one of ``taken``."""
        self._check_room(entry, path, below)
        try:
            with self._open().replacing(below, durable=True) as target:
                etag = self._store.get_version(entry, target, self._check)
                if etag not in taken:
                    raise _OtherBytes
                os.fchmod(target, _MODE)
        except _OtherBytes:
            return etag
        except OSError as error:
            error.filename = path  # and not the temporary's
            raise
        except S3Error as error:
            if error.kind is ErrorKind.MISSING and error.code != "NoSuchBucket":
                raise StoreError(f"{error}: it was there a moment ago") from error
            raise
        return etag

    def _check_room(self, entry: Entry, path: str, below: bytes) -> None:
        free = self._open().free(os.path.dirname(below))
        if entry.size + self._wanted.reserve > free:
            text = f"{shown(path)} needs {entry.size:,} bytes, and {free:,} are free"
            if self._wanted.reserve:
                text += f", of which {self._wanted.reserve:,} are kept in reserve"
            raise StoreError(f"no room: {text}")

    def _enter(self, folder: str) -> bytes:
        """Make a folder; its path below the target's, where no link in that leads out of it.

        That path has no link: what is put in the way of it later isn't followed.
        """
        with self._lock:
            if folder not in self._folders:
                with acting_as(self._wanted.rights):
                    root = os.path.realpath(self._root)
                    real = os.path.realpath(folder)
                if os.path.commonpath([root, real]) != root:
                    text = f"{shown(folder)} leads out of the folder, to {shown(real)}"
                    raise InputError(f"input {self._path.s3}: {text}")
                below = b"" if real == root else os.fsencode(os.path.relpath(real, root))
                self._opened = self._opened or Beneath.open(
                    os.fsencode(root), self._wanted.rights, make=True
                )
                self._opened.make_folder(below)
                self._folders[folder] = below
            return self._folders[folder]

    def _open(self) -> Beneath:
        assert self._opened is not None
        return self._opened


class _OtherBytes(Exception):
    """What came is not what was stored."""
