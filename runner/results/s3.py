"""The result store that is a prefix of an S3 bucket.

Owns how our promises (a key is there as a whole or not at all, what was stored is what was read,
bounded memory) are kept with S3's calls. Must not know whose the keys are.
"""

from __future__ import annotations

import base64
import hashlib
import os
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from runner.aws.clients import S3Client
from runner.aws.faults import AwsError, Kind, calling, translate
from runner.errors import UsageError
from runner.results.source import Source
from runner.results.store import ChangedError, Entry, Stored, StoreError, Versioned

PARALLEL = 10
"""Files at once, as other tools do it. One connection each."""

PART = 8 << 20
"""Bytes of a part, and of the largest file that goes up in one piece."""

MAX_PARTS = 10_000
"""S3 User Guide, "Amazon S3 multipart upload limits"."""

IN_FLIGHT = 5 * PART
"""Bytes of parts that are in memory at once, whatever their number and size."""

_TRIES = 3

_PERMISSIONS = {
    "PutObject": "s3:PutObject",
    "GetObject": "s3:GetObject",
    "DeleteObject": "s3:DeleteObject",
    "ListObjectsV2": "s3:ListBucket",
    "ListMultipartUploads": "s3:ListBucketMultipartUploads",
    "AbortMultipartUpload": "s3:AbortMultipartUpload",
    "CreateMultipartUpload": "s3:PutObject",
    "UploadPart": "s3:PutObject",
    "CompleteMultipartUpload": "s3:PutObject",
}
"""Service Authorization Reference, "Actions, resources, and condition keys for Amazon S3"."""


@dataclass(frozen=True, slots=True)
class S3Options:
    """How objects are stored. ``kms_key``: an id or ARN; None is the bucket's own default."""

    kms_key: str | None = None
    storage_class: str | None = None


class S3Store:
    """A `ResultStore` below ``s3://bucket/prefix/``. Needs no folder, keeps no state."""

    local_folder = None
    parallel = PARALLEL

    def __init__(self, bucket: str, prefix: str = "", options: S3Options = S3Options()) -> None:
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._s3 = S3Client(connections=2 * PARALLEL + 2)
        self._extra: dict[str, str] = {}
        if options.kms_key:
            self._extra = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": options.kms_key}
        if options.storage_class:
            self._extra["StorageClass"] = options.storage_class
        self._room = _Budget(IN_FLIGHT)
        self._parts = ThreadPoolExecutor(PARALLEL, thread_name_prefix="s3-part")
        self._lock = threading.Lock()
        self._abandoned: set[tuple[str, str]] | None = None
        self.notes: list[str] = []

    def describe(self) -> str:
        return f"s3://{self._bucket}/{self._prefix}".removesuffix("/")

    # -- before anything else ----------------------------------------------------------------

    def prepare(self) -> None:
        """Put, list, read, delete and abort something small.

        Raises UsageError for what only a person can change (no such bucket, no permission, no
        credentials); StoreError where it may pass. What an S3-compatible store doesn't have is
        noted in ``notes``.
        """
        key = f".runner-probe-{uuid.uuid4().hex}"
        probes: list[Callable[[], object]] = [
            lambda: self.put_bytes(key, b"probe"),
            lambda: next(self.list(""), None),
            lambda: self.get_bytes(key),
            lambda: self._call("ListMultipartUploads", Prefix=self._prefix, MaxUploads=1),
            lambda: self._probe_abort(key),
        ]
        try:
            for probe in probes:
                self._probe(probe)
        finally:
            try:
                self._probe(lambda: self.delete(key))
            except StoreError:
                pass  # the probe's own error is what matters, and the object is small

    def _probe_abort(self, key: str) -> None:
        upload = self._call("CreateMultipartUpload", Key=self._key(key), **self._extra)
        self._call("AbortMultipartUpload", Key=self._key(key), UploadId=upload["UploadId"])

    def _probe(self, probe: Callable[[], object]) -> None:
        try:
            probe()
        except S3Error as error:
            if error.kind is Kind.UNSUPPORTED:
                self.notes.append(f"{self.describe()}: {error}: done without")
            elif error.kind in (Kind.DENIED, Kind.MISSING, Kind.NO_CREDENTIALS, Kind.INVALID):
                raise UsageError(f"results in {error}") from error
            else:
                raise

    # -- storing -----------------------------------------------------------------------------

    def put_file(
        self, key: str, source: Source, *, durable: bool = False, link: bool = False
    ) -> Stored:
        """A file that changes while it is read is read again, three times in all; the last stays.

        S3 checks each body against a checksum sent with it. Up to 8 MiB go in one piece.
        """
        with source.open() as fd:
            for left in reversed(range(_TRIES)):
                before = os.fstat(fd)
                reader = _Reader(source, fd, before.st_size)
                if before.st_size <= PART:
                    with self._room.taken(before.st_size):
                        self._put(key, reader.read(before.st_size))
                else:
                    self._put_parts(key, reader)
                after = os.fstat(fd)
                changed = (reader.done, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns)
                if not changed or not left:
                    break
        mode = before.st_mode & 0o777
        return Stored(reader.done, reader.sha256, before.st_mtime_ns, mode, changed)

    def put_bytes(self, key: str, data: bytes, *, durable: bool = False) -> None:
        self._put(key, data)

    def swap_bytes(self, key: str, data: bytes, expected: str | None) -> str:
        """By If-Match and If-None-Match; a store that knows neither just takes the bytes."""
        condition = {"IfMatch": expected} if expected else {"IfNoneMatch": "*"}
        try:
            return self._put(key, data, **condition)
        except S3Error as error:
            if error.kind is Kind.UNSUPPORTED:
                return self._put(key, data)
            if error.kind in (Kind.CONFLICT, Kind.MISSING):
                raise ChangedError(f"{key!r} has changed in {self.describe()}") from error
            raise

    def _put(self, key: str, data: bytes | bytearray, **condition: str) -> str:
        answer = self._call(
            "PutObject",
            Key=self._key(key),
            Body=data,
            **self._checksum(data),
            **self._extra,
            **condition,
        )
        return str(answer["ETag"])

    def _put_parts(self, key: str, reader: _Reader) -> None:
        """Parts go up in parallel while the next are read; they become an object all at once."""
        upload = self._call("CreateMultipartUpload", Key=self._key(key), **self._extra)["UploadId"]
        part = max(PART, -(-reader.size // MAX_PARTS))
        futures: list[Future[dict[str, Any]]] = []
        try:
            while reader.done < reader.size:
                failed = next((f for f in futures if f.done() and f.exception()), None)
                if failed is not None:
                    break
                self._room.take(part)
                try:
                    data = reader.read(part)
                except BaseException:
                    self._room.give(part)
                    raise
                if not data:
                    self._room.give(part)
                    break  # it has become shorter
                number = len(futures) + 1
                futures.append(self._parts.submit(self._put_part, key, upload, number, data, part))
            done = [future.result() for future in futures]
            self._call(
                "CompleteMultipartUpload",
                Key=self._key(key),
                UploadId=upload,
                MultipartUpload={"Parts": done or [self._put_part(key, upload, 1, b"", 0)]},
            )
        except BaseException:
            for future in futures:
                if future.cancel():
                    self._room.give(part)
            self._abandon(key, upload)
            raise

    def _put_part(
        self, key: str, upload: str, number: int, data: bytes | bytearray, room: int
    ) -> dict[str, Any]:
        try:
            answer = self._call(
                "UploadPart",
                Key=self._key(key),
                UploadId=upload,
                PartNumber=number,
                Body=data,
                **self._checksum(data),
            )
        finally:
            self._room.give(room)
        return {"PartNumber": number, "ETag": answer["ETag"]}

    def _checksum(self, data: bytes | bytearray) -> dict[str, str]:
        """What S3 compares a body with. MD5 is the one that every compatible store knows."""
        if self._s3.compatible_only:
            digest = hashlib.md5(data, usedforsecurity=False).digest()
            return {"ContentMD5": base64.b64encode(digest).decode()}
        return {}  # boto3 sends a CRC

    # -- reading -----------------------------------------------------------------------------

    def get_bytes(self, key: str) -> bytes | None:
        found = self.get_versioned(key)
        return found.data if found else None

    def get_versioned(self, key: str) -> Versioned | None:
        try:
            answer = self._call("GetObject", Key=self._key(key))
            with self._told("GetObject", self._key(key)):
                return Versioned(answer["Body"].read(), answer["ETag"])
        except S3Error as error:
            if error.kind is Kind.MISSING and error.code != "NoSuchBucket":
                return None
            raise

    def get_file(self, key: str, target: int) -> bool:
        """In ranges at once where it is large; a version that changes meanwhile is an error."""
        from boto3.s3.transfer import TransferConfig

        config = TransferConfig(
            multipart_chunksize=PART, max_concurrency=4, io_chunksize=1 << 20, max_io_queue=8
        )
        with open(os.dup(target), "wb") as file:
            try:
                with self._told("GetObject", self._key(key)):
                    self._s3.get().download_fileobj(
                        self._bucket, self._key(key), file, Config=config
                    )
            except S3Error as error:
                if error.kind is Kind.MISSING and error.code != "NoSuchBucket":
                    return False
                raise
        return True

    def list(self, prefix: str) -> Iterator[Entry]:
        token: dict[str, str] = {}
        while True:
            page = self._call("ListObjectsV2", Prefix=self._prefix + prefix, **token)
            for item in page.get("Contents", ()):
                key = item["Key"][len(self._prefix) :]
                if key and not key.endswith("/"):
                    yield Entry(key, item["Size"])
            if not page.get("IsTruncated"):
                return
            token = {"ContinuationToken": page["NextContinuationToken"]}

    # -- removing ----------------------------------------------------------------------------

    def delete(self, key: str) -> None:
        self._call("DeleteObject", Key=self._key(key))

    def flush(self, prefix: str) -> None:
        """Nothing to do: S3 has stored what it answered for."""

    def discard_unfinished(self, prefix: str) -> None:
        """Abort what killed processes left open, once; later only what we couldn't abort ourselves.

        One request for all of a store, and not one for each job.
        """
        with self._lock:
            first, known = self._abandoned is None, self._abandoned or set()
            self._abandoned = set()
        if first:
            known = set(self._open_uploads())
        for key, upload in known:
            try:
                self._call("AbortMultipartUpload", Key=key, UploadId=upload)
            except S3Error as error:
                if error.kind is not Kind.MISSING:
                    with self._lock:
                        self._abandoned.add((key, upload))
                    if error.kind is not Kind.UNSUPPORTED:
                        raise

    def _open_uploads(self) -> Iterator[tuple[str, str]]:
        marker: dict[str, str] = {}
        while True:
            try:
                page = self._call("ListMultipartUploads", Prefix=self._prefix, **marker)
            except S3Error as error:
                if error.kind is Kind.UNSUPPORTED:
                    return
                with self._lock:
                    self._abandoned = None
                raise
            for upload in page.get("Uploads", ()):
                yield upload["Key"], upload["UploadId"]
            if not page.get("IsTruncated"):
                return
            marker = {
                "KeyMarker": page["NextKeyMarker"],
                "UploadIdMarker": page["NextUploadIdMarker"],
            }

    def _abandon(self, key: str, upload: str) -> None:
        try:
            self._call("AbortMultipartUpload", Key=self._key(key), UploadId=upload)
        except StoreError:
            with self._lock:
                if self._abandoned is not None:
                    self._abandoned.add((self._key(key), upload))

    def close(self) -> None:
        """Let its threads go."""
        self._parts.shutdown(wait=False, cancel_futures=True)

    # -- calling -----------------------------------------------------------------------------

    def _key(self, key: str) -> str:
        return self._prefix + key

    def _call(self, operation: str, **arguments: Any) -> Any:
        """One call; once more with new credentials if these have expired. Raises StoreError."""
        for again in (True, False):
            client = None
            try:
                client = self._s3.get()
                method = getattr(client, _METHODS[operation])
                return method(Bucket=self._bucket, **arguments)
            except Exception as error:
                ours = translate(error)
                if ours is None:
                    raise
                if ours.kind is Kind.EXPIRED and again and client is not None:
                    self._s3.forget(client)
                    continue
                raise self._error(operation, arguments.get("Key"), ours) from error
        raise AssertionError

    def _told(self, operation: str, key: str | None) -> Any:
        return calling(lambda ours: self._error(operation, key, ours))

    def _error(self, operation: str, key: str | None, ours: AwsError) -> S3Error:
        where = f"s3://{self._bucket}/{key or self._prefix}".removesuffix("/")
        match ours.kind:
            case Kind.DENIED:
                wanted = _PERMISSIONS[operation]
                text = f"{where}: {operation} was denied ({ours}); it needs the permission {wanted}"
            case Kind.MISSING if ours.code == "NoSuchBucket":
                text = f"s3://{self._bucket}: there is no such bucket"
            case Kind.UNSUPPORTED:
                text = f"the store doesn't know {operation} ({ours})"
            case _:
                text = f"{where}: {operation} failed: {ours}"
        return S3Error(ours.kind, ours.code, text)


class S3Error(StoreError):
    """A StoreError that knows what S3 meant."""

    def __init__(self, kind: Kind, code: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.code = code


_METHODS = {
    "PutObject": "put_object",
    "GetObject": "get_object",
    "DeleteObject": "delete_object",
    "ListObjectsV2": "list_objects_v2",
    "ListMultipartUploads": "list_multipart_uploads",
    "AbortMultipartUpload": "abort_multipart_upload",
    "CreateMultipartUpload": "create_multipart_upload",
    "UploadPart": "upload_part",
    "CompleteMultipartUpload": "complete_multipart_upload",
}


class _Reader:
    """Reads the first ``size`` bytes of a file in order, and hashes what it read."""

    def __init__(self, source: Source, fd: int, size: int) -> None:
        self.size = size
        self.done = 0
        self._source = source
        self._fd = fd
        self._hash = hashlib.sha256()

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def read(self, count: int) -> bytearray:
        """The next ``count`` bytes, or as many as there are. Raises SourceError."""
        data = bytearray(min(count, self.size - self.done))
        got = 0
        while got < len(data):
            more = self._source.read_at(self._fd, memoryview(data)[got:], self.done + got)
            if not more:
                break
            got += more
        del data[got:]
        self._hash.update(data)
        self.done += got
        return data


class _Budget:
    """So many bytes at once; who wants more waits. One that is larger than all gets all."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._free = size
        self._changed = threading.Condition()

    def take(self, count: int) -> None:
        count = min(count, self._size)
        with self._changed:
            self._changed.wait_for(lambda: self._free >= count)
            self._free -= count

    def give(self, count: int) -> None:
        with self._changed:
            self._free += min(count, self._size)
            self._changed.notify_all()

    def taken(self, count: int) -> _Taken:
        return _Taken(self, count)


class _Taken:
    def __init__(self, budget: _Budget, count: int) -> None:
        self._budget, self._count = budget, count

    def __enter__(self) -> None:
        self._budget.take(self._count)

    def __exit__(self, *_: object) -> None:
        self._budget.give(self._count)
