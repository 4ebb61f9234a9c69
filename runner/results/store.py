"""What a result store is: the protocol that the folder store and the S3 store share.

Knows keys and bytes. Must not know jobs, patterns or what a key means.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from runner.errors import RunnerError

if TYPE_CHECKING:
    from runner.results.upload.source_file import SourceFile

MAX_KEY_BYTES = 1024
"""UTF-8, in S3 with its prefix: S3 User Guide, "Naming objects"."""


class StoreError(RunnerError):
    """The store can't be written or read: no room, no network, an I/O error. Try again later."""


class RefusedError(StoreError):
    """The store doesn't take, or give, this very thing, and wouldn't the next time: a key that is
    too long, an object in an archive, a permission that is missing."""


class ChangedError(StoreError):
    """A key isn't what it was when it was read: somebody else has written it."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What was really stored of a file, told by the bytes that were read.

    `size` in bytes, `sha256` in hex, `mtime_ns` and `mode` (permission bits) of the version that
    was read; `changed`: the file changed during every try, so the bytes may be of no one moment;
    `etag`: the store's name for what it holds now, where it has such names.
    """

    size: int
    sha256: str
    mtime_ns: int
    mode: int
    changed: bool = False
    etag: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Entry:
    """One key of a store, and how many bytes it holds; ``etag``: S3's name for this version.

    Two entries are equal when keys and sizes are: not every store has ETags.
    """

    key: str
    size: int
    etag: str = field(default="", compare=False)


MAX_RECORD = 256 * 1024 * 1024
"""Bytes of what is read whole; the state of 100,000 jobs has 60 MiB at most."""


def check_record_size(name: str, size: int) -> None:
    """Raise RefusedError for what no run has stored: it would fill the memory of who reads it."""
    if size > MAX_RECORD:
        most = f"at most {MAX_RECORD >> 20} MiB"
        raise RefusedError(f"{name} has {size:,} bytes: what is read there has {most}")


@dataclass(frozen=True, slots=True)
class Versioned:
    """What a key holds, and the store's name for that version of it."""

    data: bytes
    version: str


class ResultStore(Protocol):
    """Keys are relative UTF-8 paths, of `Layout`; a prefix is "" or ends with `/`.

    Each call may block for long and may be made from any thread; two calls at once never concern
    one key. All raise StoreError. A key is there as a whole or not at all.
    """

    @property
    def parallel(self) -> int:
        """How many files at once are stored or fetched in the least time."""

    @property
    def key_bytes(self) -> int:
        """How many bytes (UTF-8) a key may have."""

    @property
    def local_folder(self) -> str | None:
        """The real path of the folder that the keys are in, if it is on this machine."""

    def below(self, folder: str) -> ResultStore:
        """The store of the keys in a folder of this one, to be closed by itself.

        It shares what takes long to make: a client of S3 takes 0.1 s of processor time.
        """

    def describe(self) -> str:
        """Where this is, for people: `s3://bucket/prefix` or a path."""

    def prepare(self) -> list[str]:
        """Try, before any job runs, whether results can be stored; returns what is worth a word.

        Raises UsageError if a person has to change something first.
        """

    def put_file(
        self, key: str, source: SourceFile, *, durable: bool = False, link: bool = False
    ) -> Stored:
        """Store a file's content, in place of what was there. Raises SourceError for its part.

        `durable`: it survives a power cut once `flush` returned. `link`: nobody will write to the
        file again, so the store may share its blocks.
        """

    def put_bytes(self, key: str, data: bytes, *, durable: bool = False) -> None:
        """Store `data`, in place of what was there; `durable`: safe from a power cut on return."""

    def get_bytes(self, key: str) -> bytes | None:
        """What `put_bytes` stored; None if there is no such key.

        Raises RefusedError for more than MAX_RECORD bytes.
        """

    def swap_bytes(self, key: str, data: bytes, expected: str | None) -> str:
        """Store `data` if the key still has the version `expected` (None: isn't there).

        Returns the new version. Raises ChangedError if it has another one.
        """

    def get_versioned(self, key: str) -> Versioned | None:
        """What is stored, with its version for `swap_bytes`; None if there is no such key."""

    def get_file(self, key: str, target: int, size: int | None = None) -> bool:
        """Write what is stored into the empty file open as `target`; False if there is none.

        `size`: how many bytes should be stored, where that is known. Raises OSError where the
        target can't be written.
        """

    def list(self, prefix: str) -> Iterator[Entry]:
        """All keys below a prefix, in no order; nothing unfinished among them."""

    def delete(self, key: str) -> None:
        """Remove a key; it need not be there."""

    def flush(self, prefix: str) -> None:
        """Make every key below `prefix` that was put `durable` survive a power cut."""

    def clean_up(self, prefix: str) -> None:
        """Before an upload: remove what killed ones left below `prefix`, if it is of no use."""

    def discard_unfinished(self, prefix: str) -> None:
        """After an upload: remove what is unfinished below `prefix`; nobody goes on with it."""

    def close(self) -> None:
        """Give back threads and connections."""
