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
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Any

from runner.aws.clients import S3Client
from runner.aws.faults import AwsError, Kind, calling, translate
from runner.errors import UsageError
from runner.results.copying import write_at
from runner.results.etags import etag_in_parts, parts_of, plain_etag
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

RANGES = 4
"""Ranges of one file that are fetched at once."""

_CHUNK = 1 << 20
_EXPRESS = "--x-s3"
"""S3 User Guide, "Directory buckets": how their names end; their ETags are no digests."""

_TRIES = 3

_PERMISSIONS = {
    "PutObject": "s3:PutObject",
    "GetObject": "s3:GetObject",
    "HeadObject": "s3:GetObject",
    "DeleteObject": "s3:DeleteObject",
    "ListObjectsV2": "s3:ListBucket",
    "ListMultipartUploads": "s3:ListBucketMultipartUploads",
    "AbortMultipartUpload": "s3:AbortMultipartUpload",
    "CreateMultipartUpload": "s3:PutObject",
    "UploadPart": "s3:PutObject",
    "CompleteMultipartUpload": "s3:PutObject",
}
"""Service Authorization Reference, "Actions, resources, and condition keys for Amazon S3"."""


_PROBE = b"probe"

_PROBE_KEY = ".runner-probe"
"""Always the same: what a start that was killed left there is removed by the next."""

_FOR_PEOPLE = (
    Kind.DENIED,
    Kind.MISSING,
    Kind.NO_CREDENTIALS,
    Kind.EXPIRED,
    Kind.INVALID,
    Kind.UNSUPPORTED,
)

_SHA256 = "runner-sha256"
_SWAP = "runner-swap"
"""Metadata of objects: what their bytes are, and which call of `swap_bytes` wrote them."""


@dataclass(frozen=True, slots=True)
class S3Options:
    """How objects are stored. ``kms_key``: an id or ARN; None is the bucket's own default."""

    kms_key: str | None = None
    storage_class: str | None = None


class S3Store:
    """A `ResultStore` below ``s3://bucket/prefix/``. Needs no folder, keeps no state."""

    local_folder = None
    parallel = PARALLEL

    def __init__(self, bucket: str, prefix: str = "", options: S3Options | None = None) -> None:
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._s3 = S3Client(connections=2 * PARALLEL + 2)
        self._extra: dict[str, str] = {}
        options = options or S3Options()
        if options.kms_key:
            self._extra = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": options.kms_key}
        if options.storage_class:
            self._extra["StorageClass"] = options.storage_class
        self._room = _Budget(IN_FLIGHT)
        self._parts = ThreadPoolExecutor(PARALLEL, thread_name_prefix="s3-part")
        self._probing = False
        self._discarding = threading.Lock()
        self._listed = False
        self._closed = False
        self._abandoned: set[tuple[str, str]] = set()
        self._unsure: dict[str, set[str]] = {}

    def describe(self) -> str:
        return f"s3://{self._bucket}/{self._prefix}".removesuffix("/")

    # -- before anything else ----------------------------------------------------------------

    def prepare(self) -> list[str]:
        """Put, list, read, abort and delete something small.

        Raises UsageError for what only a person can change (no such bucket, no permission, no
        credentials); StoreError where it may pass. What an S3-compatible store can be without is
        returned as notes.
        """
        key = _PROBE_KEY
        self._probing = True
        try:
            notes = [
                self._probe(lambda: self.put_bytes(key, _PROBE), optional=False),
                self._probe(lambda: next(self.list(""), None)),
                self._probe(lambda: self._probe_read(key), optional=False),
                self._probe(lambda: self._probe_open_uploads(key)),
                self._probe(lambda: self._probe_abort(key)),
                self._probe(lambda: self.delete(key)),
            ]
        except BaseException:
            with suppress(StoreError):  # what failed first is what matters
                self.delete(key)
            raise
        finally:
            self._probing = False
        return [note for note in notes if note]

    def _probe_read(self, key: str) -> None:
        if self.get_bytes(key) != _PROBE:
            raise StoreError(f"{self.describe()}: what was stored there doesn't come back")

    def _probe_open_uploads(self, key: str) -> None:
        """See what is open; of that the probe's own is left by a start that was killed."""
        page = self._call("ListMultipartUploads", Prefix=self._key(key))
        for upload in page.get("Uploads", ()):
            if upload["Key"] == self._key(key):
                self._discard(upload["Key"], upload["UploadId"])

    def _probe_abort(self, key: str) -> None:
        if (error := self._discard(self._key(key), self._create(key))) is not None:
            raise error

    def _probe(self, probe: Callable[[], object], *, optional: bool = True) -> str | None:
        try:
            probe()
        except S3Error as error:
            if error.kind is Kind.UNSUPPORTED and optional:
                return f"{self.describe()}: {error}: done without"
            if error.kind in _FOR_PEOPLE:
                raise UsageError(f"results in {error}") from error
            raise
        return None

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
            if error.kind not in (Kind.CONFLICT, Kind.MISSING) or error.code == "NoSuchBucket":
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
            if error.kind is Kind.UNSUPPORTED:
                return self._put(key, data, **extra)
            raise

    def _put(self, key: str, data: bytes | bytearray, **extra: Any) -> str:
        answer = self._call(
            "PutObject",
            Key=self._key(key),
            Body=data,
            **self._checksum(data),
            **self._extra,
            **extra,
        )
        return str(self._field(answer, "ETag", "PutObject"))

    def _create(self, key: str) -> str:
        """Open a multipart upload; which checksums its parts have is to be told beforehand."""
        known = {} if self._s3.compatible_only else {"ChecksumAlgorithm": "CRC32"}
        answer = self._call("CreateMultipartUpload", Key=self._key(key), **known, **self._extra)
        return str(self._field(answer, "UploadId", "CreateMultipartUpload"))

    def _put_parts(self, key: str, reader: _Reader) -> None:
        """Parts go up in parallel while the next are read; they become an object all at once."""
        upload = self._create(key)
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
                del data  # while we wait for room only the budget's parts are in memory
            done = [future.result() for future in futures]
            self._call(
                "CompleteMultipartUpload",
                Key=self._key(key),
                UploadId=upload,
                MultipartUpload={"Parts": done or [self._put_part(key, upload, 1, b"", 0)]},
            )
        except BaseException as error:
            for future in futures:
                if future.cancel():
                    self._room.give(part)
            wait(futures)  # a part that arrives after the abort would stay, and be paid for
            self._discard(self._key(key), upload)
            if self._closed and isinstance(error, CancelledError | RuntimeError):
                raise StoreError(f"{key!r} isn't stored: the store was closed") from error
            raise

    def _put_part(
        self, key: str, upload: str, number: int, data: bytes | bytearray, room: int
    ) -> dict[str, Any]:
        try:
            checksum = self._checksum(data)
            answer = self._call(
                "UploadPart",
                Key=self._key(key),
                UploadId=upload,
                PartNumber=number,
                Body=data,
                **checksum,
            )
        finally:
            self._room.give(room)
        checksum.pop("ContentMD5", None)
        etag = self._field(answer, "ETag", "UploadPart")
        return {"PartNumber": number, "ETag": etag, **checksum}

    def _checksum(self, data: bytes | bytearray) -> dict[str, str]:
        """What S3 compares a body with. MD5 is the one that every compatible store knows.

        The CRC is told and not left to boto3: S3 wants each part's again when an upload is
        completed (API reference, "CompleteMultipartUpload"), and boto3 copies what it hashes.
        """
        if self._s3.compatible_only:
            digest = hashlib.md5(data, usedforsecurity=False).digest()
            return {"ContentMD5": base64.b64encode(digest).decode()}
        return {"ChecksumCRC32": base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()}

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
            answer = self._call("GetObject", Key=self._key(key))
            with self._told("GetObject", self._key(key)):
                data = answer["Body"].read()
        except S3Error as error:
            if error.kind is Kind.MISSING and error.code != "NoSuchBucket":
                return None
            raise
        metadata = answer.get("Metadata", {})
        if metadata.get(_SHA256, "") not in ("", *_metadata(data).values()):
            raise StoreError(f"{key!r} of {self.describe()} came with other bytes than were stored")
        version = self._field(answer, "ETag", "GetObject")
        return Versioned(data, version), metadata.get(_SWAP)

    def get_file(self, key: str, target: int) -> bool:
        """In ranges at once where it is large; a version that changes meanwhile is an error.

        What arrives isn't checked where a store sends no checksum: the manifest has the sha256.
        """
        from boto3.s3.transfer import TransferConfig

        config = TransferConfig(
            multipart_chunksize=PART, max_concurrency=4, io_chunksize=1 << 20, max_io_queue=8
        )

        begun = False

        def fetch(client: Any) -> None:
            nonlocal begun
            if begun:  # the keys expired on the way: what came so far may be of another version
                os.ftruncate(target, 0)
                os.lseek(target, 0, os.SEEK_SET)
            begun = True
            with open(os.dup(target), "wb") as file:
                client.download_fileobj(self._bucket, self._key(key), file, Config=config)

        try:
            self._ask("GetObject", self._key(key), fetch)
        except S3Error as error:
            if error.kind is Kind.MISSING and error.code != "NoSuchBucket":
                return False
            raise
        return True

    def look_up(self, key: str) -> Entry | None:
        """One key, as `list` tells it; None if there is no such key."""
        try:
            answer = self._call("HeadObject", Key=self._key(key))
        except S3Error as error:
            if error.kind is Kind.PASSING:
                raise
            answer = self._look_closer(key)
        if answer is None:
            return None
        size = self._field(answer, "ContentLength", "HeadObject")
        return Entry(key, size, self._field(answer, "ETag", "HeadObject"))

    def _look_closer(self, key: str) -> Any:
        """A GET's answer: that to a HEAD has no body, to say that it is the bucket that is missing,
        or the credentials that have expired."""
        try:
            answer = self._call("GetObject", Key=self._key(key))
        except S3Error as error:
            if error.kind is Kind.MISSING and error.code != "NoSuchBucket":
                return None
            raise
        answer["Body"].close()
        return answer

    def get_version(self, entry: Entry, target: int, between: Callable[[], None]) -> str:
        """Write this very version of a key into the empty file `target`, in ranges at once.

        Returns the ETag that the bytes which came have: the entry's own where that can't be told.
        `between` is called again and again, and ends it by raising. Raises OSError where the target
        can't be written; S3Error, of kind CONFLICT if the key holds another version by now.
        """
        is_digest = self._get_range(entry, target, 0, between)
        begun: deque[Future[bool]] = deque()
        try:
            for start in range(PART, entry.size, PART):
                begun.append(self._parts.submit(self._get_range, entry, target, start, between))
                if len(begun) >= RANGES:
                    begun.popleft().result()
            while begun:
                begun.popleft().result()
        except (CancelledError, RuntimeError) as error:
            if not self._closed:
                raise
            raise StoreError(f"{entry.key!r} hasn't come: the store was closed") from error
        finally:
            for future in begun:
                future.cancel()
            wait(begun)  # once we are gone the descriptor may be another file's
        return self._etag_of(entry, target, between) if is_digest else entry.etag

    def _get_range(
        self, entry: Entry, target: int, start: int, between: Callable[[], None]
    ) -> bool:
        """Fetch up to a part; whether the ETag is a digest, as far as the answer tells."""
        end = min(start + PART, entry.size)
        extra = {"Range": f"bytes={start}-{end - 1}"} if entry.size > PART else {}
        if entry.etag:
            extra["IfMatch"] = entry.etag
        answer = self._call("GetObject", Key=self._key(entry.key), **extra)
        at = start
        with self._told("GetObject", self._key(entry.key)), closing(answer["Body"]) as body:
            while data := body.read(_CHUNK):
                between()
                if at + len(data) > end:
                    break
                write_at(target, data, at)
                at += len(data)
        if at != end or data:
            where = f"s3://{self._bucket}/{self._key(entry.key)}"
            raise StoreError(
                f"{where}: other than the {end - start} bytes that were asked for came"
            )
        by_kms = str(answer.get("ServerSideEncryption", "")).startswith("aws:kms")
        return not by_kms and "SSECustomerAlgorithm" not in answer

    def _etag_of(self, entry: Entry, target: int, between: Callable[[], None]) -> str:
        parts = parts_of(entry.etag)
        if parts is None or self._bucket.endswith(_EXPRESS):
            return entry.etag
        if not parts:
            return plain_etag(target, between)
        size = self._part_size(entry)
        if size is None or -(-entry.size // size) != parts:
            return entry.etag
        return etag_in_parts(target, entry.size, size, between)

    def _part_size(self, entry: Entry) -> int | None:
        """Bytes of the first part of what went up in parts; None where the store can't say."""
        try:
            answer = self._call("HeadObject", Key=self._key(entry.key), PartNumber=1)
        except S3Error as error:
            if error.kind in (Kind.UNSUPPORTED, Kind.INVALID, Kind.CONFLICT):
                return None
            raise
        return answer.get("ContentLength") or None

    def list(self, prefix: str) -> Iterator[Entry]:
        """Nothing where the store can't list: all is stored anew, and nothing old removed."""
        token: dict[str, str] = {}
        while True:
            try:
                page = self._call("ListObjectsV2", Prefix=self._prefix + prefix, **token)
            except S3Error as error:
                if error.kind is Kind.UNSUPPORTED and not self._probing:
                    return
                raise
            for item in page.get("Contents", ()):
                key = item["Key"][len(self._prefix) :]
                if key and not key.endswith("/"):
                    yield Entry(key, item["Size"], item.get("ETag", ""))
            if not self._field(page, "IsTruncated", "ListObjectsV2"):
                return
            token = {
                "ContinuationToken": self._field(page, "NextContinuationToken", "ListObjectsV2")
            }

    # -- removing ----------------------------------------------------------------------------

    def delete(self, key: str) -> None:
        try:
            self._call("DeleteObject", Key=self._key(key))
        except S3Error as error:
            if error.kind is Kind.UNSUPPORTED and not self._probing:
                return
            if error.kind is not Kind.MISSING or error.code == "NoSuchBucket":
                raise

    def flush(self, prefix: str) -> None:
        """Nothing to do: S3 has stored what it answered for."""

    def discard_unfinished(self, prefix: str) -> None:
        """Abort what killed processes left open, once; later only what we couldn't abort ourselves.

        One request for all of a store, and not one for each job. Whoever comes meanwhile waits: an
        upload that began before the list was complete would be taken for one of the dead.
        """
        with self._discarding:
            if not self._listed:
                self._abandoned.update(self._open_uploads())
                self._listed = True
            failed = [error for each in list(self._abandoned) if (error := self._discard(*each))]
        for error in failed:
            if error.kind is not Kind.UNSUPPORTED:
                raise error

    def _discard(self, key: str, upload: str) -> S3Error | None:
        """Abort it; if that fails, it is for the next time."""
        try:
            self._call("AbortMultipartUpload", Key=key, UploadId=upload)
        except S3Error as error:
            if error.kind is not Kind.MISSING:
                self._abandoned.add((key, upload))
                return error
        self._abandoned.discard((key, upload))
        return None

    def _open_uploads(self) -> Iterator[tuple[str, str]]:
        marker: dict[str, str] = {}
        while True:
            try:
                page = self._call("ListMultipartUploads", Prefix=self._prefix, **marker)
            except S3Error as error:
                if error.kind is Kind.UNSUPPORTED:
                    return
                raise
            for upload in page.get("Uploads", ()):
                yield upload["Key"], upload["UploadId"]
            if not page.get("IsTruncated"):
                return
            marker = {
                "KeyMarker": self._field(page, "NextKeyMarker", "ListMultipartUploads"),
                "UploadIdMarker": self._field(page, "NextUploadIdMarker", "ListMultipartUploads"),
            }

    def close(self) -> None:
        """Let its threads go. An upload in parts that still runs fails with StoreError."""
        self._closed = True
        self._parts.shutdown(wait=False, cancel_futures=True)

    # -- calling -----------------------------------------------------------------------------

    def _key(self, key: str) -> str:
        return self._prefix + key

    def _call(self, operation: str, **arguments: Any) -> Any:
        def call(client: Any) -> Any:
            return getattr(client, _METHODS[operation])(Bucket=self._bucket, **arguments)

        return self._ask(operation, arguments.get("Key"), call)

    def _ask(self, operation: str, key: str | None, ask: Callable[[Any], Any]) -> Any:
        """One call; once more with new credentials if these have expired. Raises StoreError."""
        if self._closed and operation != "AbortMultipartUpload":
            # By a thread that nobody waited for: others may write to these keys by now.
            raise StoreError(f"{self.describe()}: {operation} came after the store was closed")
        for again in (True, False):
            client = None
            try:
                client = self._s3.get()
                return ask(client)
            except Exception as error:
                ours = translate(error)
                if ours is None:
                    raise
                if ours.kind is Kind.EXPIRED and again and client is not None:
                    self._s3.forget(client)
                    continue
                raise self._error(operation, key, ours) from error
        raise AssertionError

    def _field(self, answer: dict[str, Any], name: str, operation: str) -> Any:
        """What S3 always tells; a proxy's login page, which comes with status 200, doesn't."""
        try:
            return answer[name]
        except KeyError:
            text = f"{self.describe()}: {operation} was answered without {name}: is this S3?"
            raise StoreError(text) from None

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


def _metadata(data: bytes) -> dict[str, str]:
    return {_SHA256: hashlib.sha256(data).hexdigest()}


_METHODS = {
    "PutObject": "put_object",
    "GetObject": "get_object",
    "HeadObject": "head_object",
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
