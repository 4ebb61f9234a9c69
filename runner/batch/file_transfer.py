"""Files to and from S3 by hand: what single jobs read, and what they left.

Owns which key a local path has and the other way round. How bytes get there, and that they are the
right ones, is the business of the result store and of the inputs.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from runner.aws.errors import ErrorKind
from runner.errors import UsageError
from runner.model.fields import check_bucket
from runner.model.messages import quoted
from runner.model.queue import InputSpec
from runner.model.validation_errors import InvalidError
from runner.results.concurrency import at_once
from runner.results.download.inputs import InputStore, InputsWanted, fetch_inputs
from runner.results.s3.calls import S3Error
from runner.results.s3.store import S3Options, S3Store
from runner.results.store import Entry, RefusedError, StoreError
from runner.results.stores import SCHEME
from runner.results.upload.source_file import SourceError, SourceFile

Advance = Callable[[int, int], None]
"""Called with bytes that are to come, and bytes that have come."""


@dataclass(frozen=True, slots=True)
class PutReport:
    """``problems``: a line for each file that was not stored."""

    files: int
    bytes: int
    problems: tuple[str, ...]


def put(local: str, address: str, options: S3Options, advance: Advance) -> PutReport:
    """Store a file, or all files below a folder. Raises UsageError, RefusedError."""
    bucket, key = parse_address(address)
    if not os.path.lexists(local):
        raise UsageError(f"{quoted(local)} does not exist")
    skipped: list[str] = []
    files = list(_files(local, key, skipped))
    store = S3Store(bucket, "", options)
    stored: list[int] = []

    def one(item: tuple[str, str]) -> str | None:
        path, name = item
        if len(name.encode()) > store.key_bytes:
            return f"{path}: its key would have more than {store.key_bytes:,} bytes"
        try:
            size = store.put_file(name, SourceFile(path, ours=True)).size
        except RefusedError:
            raise
        except (SourceError, StoreError) as error:
            if isinstance(error, S3Error) and error.kind is ErrorKind.MISSING:
                raise  # the bucket: no other file would be stored either
            return str(error)
        stored.append(size)
        advance(0, size)
        return None

    try:
        advance(sum(_size(path) for path, _ in files), 0)
        with ThreadPoolExecutor(store.parallel, thread_name_prefix="put") as pool:
            problems = [told for told in at_once(pool, one, files, 2 * store.parallel) if told]
    finally:
        store.close()
    return PutReport(len(stored), sum(stored), (*skipped, *problems))


def get(address: str, local: str, records: Path, advance: Advance) -> int:
    """Fetch a key, or all below an address that ends with `/`; how many files came.

    ``records``: a folder that remembers which version of which key a file is. Raises UsageError,
    InputError and StoreError; the same call goes on.
    """
    bucket, key = parse_address(address)
    folder = not key or key.endswith("/") or local.endswith("/") or os.path.isdir(local)
    path = local.rstrip("/") + "/" if folder else local
    where = os.getcwd()
    name = hashlib.sha256(f"{address}\n{os.path.join(where, path)}".encode()).hexdigest()[:32]
    os.makedirs(records, exist_ok=True)
    store = S3Store(bucket)
    try:
        wanted = InputsWanted((InputSpec(address, path),), where, records / f"{name}.json")
        return fetch_inputs(lambda _: _Counted(store, advance), wanted)
    finally:
        store.close()


def parse_address(address: str) -> tuple[str, str]:
    """Bucket and key of ``s3://bucket/key``; the key may be empty or end with `/`."""
    if not address.startswith(SCHEME):
        raise UsageError(f"{quoted(address)} is not an address such as s3://bucket/key")
    bucket, _, key = address.removeprefix(SCHEME).partition("/")
    try:
        check_bucket(bucket)
    except InvalidError as error:
        raise UsageError(f"{quoted(address)}: the bucket {error}") from None
    if any(part in ("", ".", "..") for part in key.removesuffix("/").split("/")) and key:
        raise UsageError(f"{quoted(address)}: no part of a key may be empty, '.' or '..'")
    return bucket, key


def _files(local: str, key: str, skipped: list[str]) -> Iterator[tuple[str, str]]:
    """Each file's absolute path and key."""
    real = os.path.realpath(local)
    if not os.path.isdir(real):
        name = os.path.basename(os.path.abspath(local))
        yield real, key + name if not key or key.endswith("/") else key
        return
    prefix = key if not key or key.endswith("/") else f"{key}/"

    def unreadable(error: OSError) -> None:
        skipped.append(f"{error.filename} cannot be read: {error.strerror}")

    for folder, folders, names in os.walk(real, onerror=unreadable):
        folders.sort()
        for name in folders:
            if os.path.islink(os.path.join(folder, name)):
                skipped.append(f"{os.path.join(folder, name)} is a link to a folder: not followed")
        for name in sorted(names):
            path = os.path.join(folder, name)
            below = os.path.relpath(path, real)
            if not _is_utf8(below):
                skipped.append(f"{path}: its name is not UTF-8, which S3 requires")
            else:
                yield os.path.realpath(path), prefix + below


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0  # it is told when it is stored


class _Counted:
    """A bucket whose downloads are counted."""

    def __init__(self, store: InputStore, advance: Advance) -> None:
        self._store = store
        self._advance = advance

    @property
    def parallel(self) -> int:
        return self._store.parallel

    def look_up(self, key: str) -> Entry | None:
        return self._store.look_up(key)

    def list(self, prefix: str) -> Iterator[Entry]:
        return self._store.list(prefix)

    def get_version(self, entry: Entry, target: int, between: Callable[[], None]) -> str:
        self._advance(entry.size, 0)
        etag = self._store.get_version(entry, target, between)
        self._advance(0, entry.size)
        return etag
