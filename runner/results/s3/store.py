"""The result store that is a prefix of an S3 bucket.

Owns how our promises (a key is there as a whole or not at all, what was stored is what was read,
bounded memory) are kept with S3's calls. Must not know whose the keys are.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from runner.aws.errors import ErrorKind
from runner.results.s3 import multipart_upload
from runner.results.s3.calls import Calls, Clients, S3Error
from runner.results.s3.object_versions import Versions
from runner.results.s3.probe import probe
from runner.results.store import (
    MAX_KEY_BYTES,
    ChangedError,
    Entry,
    Stored,
    StoreError,
    Versioned,
    check_record_size,
)
from runner.results.upload.file_reader import FileReader
from runner.results.upload.progress import Progress
from runner.results.upload.source_file import SourceFile

PARALLEL = 10
"""Files at once, as other tools do it. One connection each."""

_TRIES = 3

_SHA256 = "runner-sha256"
_SWAP = "runner-swap"
"""Metadata of objects: what their bytes are, and which call of `swap_bytes` wrote them."""


@dataclass(frozen=True, slots=True)
class S3Options:
    """How objects are stored. ``kms_key``: an id or ARN; None is the bucket's own default.

    ``storage_class`` is that of files (results and logs), not of manifests and the state.
    """

    kms_key: str | None = None
    storage_class: str | None = None


class S3Store:
    """A `ResultStore` below ``s3://bucket/prefix/``. Needs no folder, keeps no state."""

    local_folder = None
    parallel = PARALLEL

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        options: S3Options | None = None,
        clients: Clients | None = None,
    ) -> None:
        self._options = options = options or S3Options()
        self._extra: dict[str, str] = {}
        if options.kms_key:
            self._extra = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": options.kms_key}
        # What is written again and again, and read by us, is never put into an archive.
        self._class = {"StorageClass": options.storage_class} if options.storage_class else {}
        self._calls = Calls(bucket, prefix, 2 * PARALLEL + 2, clients)
        self._threads = ThreadPoolExecutor(PARALLEL, thread_name_prefix="s3-part")
        self._parts = multipart_upload.PartUploads(
            self._calls, {**self._extra, **self._class}, self._threads
        )
        self._versions = Versions(self._calls, self._threads)
        self._unsure: dict[str, set[str]] = {}

    @property
    def key_bytes(self) -> int:
        return MAX_KEY_BYTES - len(self._calls.prefix.encode())

    def below(self, folder: str) -> S3Store:
        prefix = self._calls.key(folder.removesuffix("/"))
        return S3Store(self._calls.bucket, prefix, self._options, self._calls.clients)

    def beside(self, bucket: str) -> S3Store:
        """All of another bucket, over the same connections."""
        return S3Store(bucket, clients=self._calls.clients)

    def describe(self) -> str:
        return self._calls.describe()

    def prepare(self) -> list[str]:
        """See `probe`."""
        return probe(self._calls, self._parts, self._extra)

    # -- storing -----------------------------------------------------------------------------

    def put_file(
        self, key: str, source: SourceFile, *, durable: bool = False, link: bool = False
    ) -> Stored:
        """A file that changes while it is read is read again, three times in all; the last stays.

        S3 checks each body against a checksum sent with it. Up to 8 MiB go in one piece.
        """
        with source.open() as fd:
            for left in reversed(range(_TRIES)):
                before = os.fstat(fd)
                reader = FileReader(source, fd, before.st_size)
                try:
                    reader, etag = self._put_read(key, reader)
                except multipart_upload.OtherPartsError:
                    if not left:
                        raise
                    continue
                after = os.fstat(fd)
                changed = (reader.done, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns)
                if not changed or not left:
                    break
        mode = before.st_mode & 0o777
        return Stored(reader.done, reader.sha256, before.st_mtime_ns, mode, changed, etag)

    def _put_read(self, key: str, reader: FileReader) -> tuple[FileReader, str]:
        """The reader that has read it, and the object's ETag."""
        if reader.size > multipart_upload.PART:
            if (etag := self._parts.find(key, reader)) is not None:
                return reader, etag
            reader = reader.again()
            return reader, self._parts.put(key, reader)
        progress = reader.source.progress or Progress()
        with self._parts.room.taken(reader.size):
            data = reader.read(reader.size)
            body = multipart_upload.body_of(data, lambda count: progress.sent(key, 0, count))
            etag = self._put(key, data, body=body, **self._class)
        progress.made()
        return reader, etag

    def put_bytes(self, key: str, data: bytes, *, durable: bool = False) -> None:
        self._put(key, data, Metadata=_metadata(data))

    def swap_bytes(self, key: str, data: bytes, expected: str | None) -> str:
        """By If-Match and If-None-Match; a store that knows neither just takes the bytes.

        An answer that was lost is no conflict: a call that isn't known to have failed leaves its
        mark on the object, and what bears one of our marks was written by nobody else.
        """
        mark = uuid.uuid4().hex
        metadata = {**_metadata(data), _SWAP: mark}
        unsure = self._unsure.setdefault(key, set())
        unsure.add(mark)
        try:
            version = self._swap(key, data, expected, Metadata=metadata)
        except S3Error as error:
            if (
                error.kind not in (ErrorKind.CONFLICT, ErrorKind.MISSING)
                or error.code == "NoSuchBucket"
            ):
                raise
            found, written_by = self._get(key) or (None, None)
            if found is not None and written_by == mark:
                version = found.version
            elif found is not None and written_by in unsure:
                version = self._swap(key, data, found.version, Metadata=metadata)
            elif (found.version if found else None) == expected:
                raise  # two at once: S3 lets neither win, and it may pass
            else:
                raise ChangedError(f"{key!r} has changed in {self.describe()}") from error
        unsure.clear()
        return version

    def _swap(self, key: str, data: bytes, expected: str | None, **extra: Any) -> str:
        condition = {"IfMatch": expected} if expected else {"IfNoneMatch": "*"}
        try:
            return self._put(key, data, **extra, **condition)
        except S3Error as error:
            if error.kind is ErrorKind.UNSUPPORTED:
                return self._put(key, data, **extra)
            raise

    def _put(self, key: str, data: bytes | bytearray, *, body: Any = None, **extra: Any) -> str:
        answer = self._calls.call(
            "PutObject",
            Key=self._calls.key(key),
            Body=data if body is None else body,
            **self._parts.checksum(data),
            **self._extra,
            **extra,
        )
        return str(self._calls.field(answer, "ETag", "PutObject"))

    # -- reading -----------------------------------------------------------------------------

    def get_bytes(self, key: str) -> bytes | None:
        found = self.get_versioned(key)
        return found.data if found else None

    def get_versioned(self, key: str) -> Versioned | None:
        found = self._get(key)
        return found[0] if found else None

    def _get(self, key: str) -> tuple[Versioned, str | None] | None:
        """What is stored, and the mark of the swap that stored it."""
        try:
            answer = self._calls.call("GetObject", Key=self._calls.key(key))
            with self._calls.translated("GetObject", self._calls.key(key)):
                size = self._calls.field(answer, "ContentLength", "GetObject")
                check_record_size(f"{key!r} of {self.describe()}", size)
                data = answer["Body"].read()
        except S3Error as error:
            if error.kind is ErrorKind.MISSING and error.code != "NoSuchBucket":
                return None
            raise
        metadata = answer.get("Metadata", {})
        if metadata.get(_SHA256, "") not in ("", *_metadata(data).values()):
            raise StoreError(f"{key!r} of {self.describe()} came with other bytes than were stored")
        version = self._calls.field(answer, "ETag", "GetObject")
        return Versioned(data, version), metadata.get(_SWAP)

    def get_file(self, key: str, target: int, size: int | None = None) -> bool:
        """In ranges at once where it is large; a version that changes meanwhile is an error.

        What arrives isn't checked where a store sends no checksum: the manifest has the sha256.
        """
        return self._versions.get_newest(key, target, size)

    def look_up(self, key: str) -> Entry | None:
        """One key, as `list` tells it; None if there is no such key."""
        return self._versions.look_up(key)

    def get_version(self, entry: Entry, target: int, between: Callable[[], None]) -> str:
        """Write this very version of a key into the empty file `target`: see Versions."""
        return self._versions.get_version(entry, target, between)

    def list(self, prefix: str) -> Iterator[Entry]:
        """Nothing where the store can't list: all is stored anew, and nothing old removed."""
        token: dict[str, str] = {}
        while True:
            try:
                page = self._calls.call(
                    "ListObjectsV2", Prefix=self._calls.prefix + prefix, **token
                )
            except S3Error as error:
                if error.kind is ErrorKind.UNSUPPORTED:
                    return
                raise
            for item in page.get("Contents", ()):
                key = item["Key"][len(self._calls.prefix) :]
                if key and not key.endswith("/"):
                    yield Entry(key, item["Size"], item.get("ETag", ""))
            if not self._calls.field(page, "IsTruncated", "ListObjectsV2"):
                return
            token = {
                "ContinuationToken": self._calls.field(
                    page, "NextContinuationToken", "ListObjectsV2"
                )
            }

    # -- removing ----------------------------------------------------------------------------

    def delete(self, key: str) -> None:
        try:
            self._calls.call("DeleteObject", Key=self._calls.key(key))
        except S3Error as error:
            if error.kind is ErrorKind.UNSUPPORTED:
                return
            if error.kind is not ErrorKind.MISSING or error.code == "NoSuchBucket":
                raise

    def flush(self, prefix: str) -> None:
        """Nothing to do: S3 has stored what it answered for."""

    def clean_up(self, prefix: str) -> None:
        """Nothing to do: what is open is gone on with."""

    def discard_unfinished(self, prefix: str) -> None:
        """Abort the multipart uploads that are open there: see OpenUploads."""
        self._parts.open.discard_all(prefix)

    def close(self) -> None:
        """Let its threads go. An upload in parts that still runs fails with StoreError."""
        self._calls.closed = True
        self._threads.shutdown(wait=False, cancel_futures=True)


def _metadata(data: bytes) -> dict[str, str]:
    return {_SHA256: hashlib.sha256(data).hexdigest()}
