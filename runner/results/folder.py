"""The result store that is a folder of this machine.

Owns where in the folder a key is, and what the store's promises mean for files. Must not know
whose the keys are.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from runner.errors import UsageError
from runner.files import sync_folder
from runner.results.escape import shown
from runner.results.file_copy import EMPTY_SHA256, copy_file, hash_file
from runner.results.file_placement import (
    is_temporary,
    place_link,
    remove_if_empty,
    replacing,
    try_to_write,
    walk,
)
from runner.results.store import (
    MAX_KEY_BYTES,
    ChangedError,
    Entry,
    RefusedError,
    Stored,
    StoreError,
    Versioned,
    check_record_size,
)
from runner.results.upload.source_file import SourceError, SourceFile

_REFUSALS = frozenset({errno.ENAMETOOLONG, errno.EFBIG, errno.EINVAL, errno.EILSEQ})
"""What a file system has against one file: its name's length or letters, or its size."""


class FolderStore:
    """A `ResultStore` in the folder `root`, which is made when something is first stored.

    Paths are bytes, for a key is UTF-8 whatever the locale is. Permissions (rwx) and mtime of
    stored files are those of their sources.
    """

    parallel = 1
    key_bytes = MAX_KEY_BYTES

    def __init__(self, root: Path) -> None:
        self._root = os.fsencode(root.absolute())

    @property
    def local_folder(self) -> str:
        return os.path.realpath(os.fsdecode(self._root))

    def below(self, folder: str) -> FolderStore:
        return FolderStore(Path(os.fsdecode(self._path(folder))))

    def describe(self) -> str:
        return os.fsdecode(self._root)

    def prepare(self) -> list[str]:
        """Make the folder, try to write to it, and remove what killed writes left in its top."""
        told = f"results folder {shown(self.describe())}"
        try:
            try_to_write(self._root)
            with os.scandir(self._root) as entries:
                for entry in entries:
                    if is_temporary(entry.name):
                        os.unlink(entry.path)
        except (FileExistsError, NotADirectoryError):
            raise UsageError(f"{told}: there is a file in its place")
        except OSError as error:
            raise UsageError(f"{told} can't be written to: {error.strerror}")
        return []

    def put_file(
        self, key: str, source: SourceFile, *, durable: bool = False, link: bool = False
    ) -> Stored:
        path = self._path(key)
        with self._told(key, "stored"), source.working():
            if link and (linked := _link(source, path, durable)):
                return linked
            with source.open() as fd, replacing(path, durable=durable) as target:
                return copy_file(source, fd, target)

    def put_bytes(self, key: str, data: bytes, *, durable: bool = False) -> None:
        path = self._path(key)
        with self._told(key, "stored"):
            with replacing(path, durable=durable) as target:
                rest = memoryview(data)
                while rest:
                    rest = rest[os.write(target, rest) :]
                os.fchmod(target, 0o644)
            if durable:
                self._sync_upwards(os.path.dirname(path))

    def get_bytes(self, key: str) -> bytes | None:
        with self._told(key, "read"):
            try:
                with open(self._path(key), "rb") as file:
                    size = os.fstat(file.fileno()).st_size
                    check_record_size(f"{key!r} of {shown(self.describe())}", size)
                    return file.read()
            except (FileNotFoundError, NotADirectoryError):
                return None

    def swap_bytes(self, key: str, data: bytes, expected: str | None) -> str:
        """One after the other, not at once: who writes to one folder shares a machine's lock."""
        found = self.get_versioned(key)
        if (found.version if found else None) != expected:
            raise ChangedError(f"{key!r} has changed in {shown(self.describe())}")
        self.put_bytes(key, data, durable=True)
        return _version(data)

    def get_versioned(self, key: str) -> Versioned | None:
        data = self.get_bytes(key)
        return None if data is None else Versioned(data, _version(data))

    def get_file(self, key: str, target: int, size: int | None = None) -> bool:
        source = self.source(key)
        try:
            with source.open() as fd:
                copy_file(source, fd, target)
        except SourceError as error:
            if isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
                return False
            raise StoreError(str(error)) from error
        return True

    def list(self, prefix: str) -> Iterator[Entry]:
        """All regular files but temporaries; a name that isn't UTF-8 is no key, and not listed."""
        top = self._path(prefix)
        with self._told(prefix, "listed"):
            for _, files in walk(top):
                for file in files:
                    try:
                        key = prefix + file.path[len(top) + 1 :].decode()
                    except UnicodeDecodeError:
                        continue
                    if not is_temporary(file.name):
                        yield Entry(key, file.stat(follow_symlinks=False).st_size)

    def delete(self, key: str) -> None:
        """Remove a key, and the folders that are empty then, but for those at the top."""
        path = self._path(key)
        with self._told(key, "removed"):
            try:
                os.unlink(path)
            except (FileNotFoundError, NotADirectoryError):
                return
            folder = os.path.dirname(path)
            while len(above := os.path.dirname(folder)) > len(self._root):
                if not remove_if_empty(folder):
                    break
                folder = above

    def flush(self, prefix: str) -> None:
        top = self._path(prefix)
        with self._told(prefix, "synced"):
            for folder, _ in walk(top):
                sync_folder(folder)
            if top != self._root:
                self._sync_upwards(os.path.dirname(top))

    def clean_up(self, prefix: str) -> None:
        """Remove the temporaries of killed uploads, and empty folders, which may be in the way."""
        with self._told(prefix, "cleaned"):
            for folder, files in reversed([*walk(self._path(prefix))]):
                leftovers = [file for file in files if is_temporary(file.name)]
                for file in leftovers:
                    os.unlink(file.path)
                if len(leftovers) == len(files):
                    remove_if_empty(folder)

    def discard_unfinished(self, prefix: str) -> None:
        """Nothing is left unfinished but by a kill: the next upload finds it."""

    def source(self, key: str) -> SourceFile:
        """The file that holds a key."""
        return SourceFile(os.fsdecode(self._path(key)), ours=True)

    def close(self) -> None:
        """Nothing is held."""

    def _path(self, key: str) -> bytes:
        """Where a key is. Raises ValueError for one that would be outside: a bug of the caller."""
        key = key.removesuffix("/")
        if not key:
            return self._root
        if "\0" in key or any(part in ("", ".", "..") for part in key.split("/")):
            raise ValueError(f"not a key: {key!r}")
        return self._root + b"/" + key.encode()

    def _sync_upwards(self, folder: bytes) -> None:
        while len(folder) > len(self._root):
            sync_folder(folder)
            folder = os.path.dirname(folder)
        sync_folder(self._root)

    def _told(self, key: str, action: str) -> _Told:
        return _Told(self._root, key, action)


def _version(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class _Told:
    """Turns an OSError into a StoreError that says what couldn't be done, and where.

    A class, for it is on the path of every call: a generator costs three times as much.
    """

    __slots__ = ("_action", "_key", "_root")

    def __init__(self, root: bytes, key: str, action: str) -> None:
        self._root, self._key, self._action = root, key, action

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, OSError):
            where = shown(os.fsdecode(self._root))
            text = f"{self._key!r} can't be {self._action} in {where}: {error.strerror}"
            raise (RefusedError if error.errno in _REFUSALS else StoreError)(text) from error


def _link(source: SourceFile, path: bytes, durable: bool) -> Stored | None:
    """Store a file by linking it; None where the file systems or their rules don't let us."""
    what = source.stat()
    try:
        place_link(os.fsencode(source.path), path)
    except OSError:
        return None
    sha256 = EMPTY_SHA256
    if what.st_size or durable:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            what = os.fstat(fd)
            sha256 = hash_file(fd, what.st_size, source.check)
            if durable:
                os.fsync(fd)
        finally:
            os.close(fd)
    return Stored(what.st_size, sha256, what.st_mtime_ns, what.st_mode & 0o777)
