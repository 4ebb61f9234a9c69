"""Large files to S3, in parts: they become an object all at once, and nothing stays open.

Owns the parts' sizes and checksums, what is in memory of them, and uploads that were left open.
"""

from __future__ import annotations

import base64
import threading
import zlib
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from typing import Any

from runner.aws.faults import Kind
from runner.results.file_reader import Budget, FileReader
from runner.results.s3_calls import Calls, S3Error
from runner.results.store import StoreError

PART = 8 << 20
"""Bytes of a part, and of the largest file that goes up in one piece."""

MAX_PARTS = 10_000
"""S3 User Guide, "Amazon S3 multipart upload limits"."""

IN_FLIGHT = 5 * PART
"""Bytes of parts that are in memory at once, whatever their number and size."""


class PartUploads:
    """``extra`` goes with each object (encryption, class); ``room`` is shared with small files."""

    def __init__(self, calls: Calls, extra: dict[str, str], threads: ThreadPoolExecutor) -> None:
        self.room = Budget(IN_FLIGHT)
        self._calls = calls
        self.extra = extra
        self._threads = threads
        self._discarding = threading.Lock()
        self._listed = False
        self._abandoned: set[tuple[str, str]] = set()

    def create(self, key: str) -> str:
        """Open a multipart upload; which checksums its parts have is to be told beforehand."""
        known = {} if self._calls.compatible_only else {"ChecksumAlgorithm": "CRC32"}
        answer = self._calls.call(
            "CreateMultipartUpload", Key=self._calls.key(key), **known, **self.extra
        )
        return str(self._calls.field(answer, "UploadId", "CreateMultipartUpload"))

    def put(self, key: str, reader: FileReader) -> None:
        """Parts go up in parallel while the next are read; they become an object all at once."""
        upload = self.create(key)
        part = max(PART, -(-reader.size // MAX_PARTS))
        futures: list[Future[dict[str, Any]]] = []
        try:
            while reader.done < reader.size:
                failed = next((f for f in futures if f.done() and f.exception()), None)
                if failed is not None:
                    break
                self.room.take(part)
                try:
                    data = reader.read(part)
                except BaseException:
                    self.room.give(part)
                    raise
                if not data:
                    self.room.give(part)
                    break  # it has become shorter
                number = len(futures) + 1
                futures.append(
                    self._threads.submit(self._put_part, key, upload, number, data, part)
                )
                del data  # while we wait for room only the budget's parts are in memory
            done = [future.result() for future in futures]
            self._calls.call(
                "CompleteMultipartUpload",
                Key=self._calls.key(key),
                UploadId=upload,
                MultipartUpload={"Parts": done or [self._put_part(key, upload, 1, b"", 0)]},
            )
        except BaseException as error:
            for future in futures:
                if future.cancel():
                    self.room.give(part)
            wait(futures)  # a part that arrives after the abort would stay, and be paid for
            self.discard(self._calls.key(key), upload)
            if self._calls.closed and isinstance(error, CancelledError | RuntimeError):
                raise StoreError(f"{key!r} isn't stored: the store was closed") from error
            raise

    def _put_part(
        self, key: str, upload: str, number: int, data: bytes | bytearray, room: int
    ) -> dict[str, Any]:
        try:
            checksum = self.checksum(data)
            answer = self._calls.call(
                "UploadPart",
                Key=self._calls.key(key),
                UploadId=upload,
                PartNumber=number,
                Body=data,
                **checksum,
            )
        finally:
            self.room.give(room)
        etag = self._calls.field(answer, "ETag", "UploadPart")
        return {"PartNumber": number, "ETag": etag, **checksum}

    def checksum(self, data: bytes | bytearray) -> dict[str, str]:
        """What S3 compares a body with; a store that may not know it checks the signed payload.

        The CRC is told and not left to boto3: S3 wants each part's again when an upload is
        completed (API reference, "CompleteMultipartUpload"), and boto3 copies what it hashes.
        """
        if self._calls.compatible_only:
            return {}
        return {"ChecksumCRC32": base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()}

    def discard_unfinished(self) -> None:
        """Abort what killed processes left open, once; later only what we couldn't abort ourselves.

        One request for all of a store, and not one for each job. Whoever comes meanwhile waits: an
        upload that began before the list was complete would be taken for one of the dead.
        """
        with self._discarding:
            if not self._listed:
                self._abandoned.update(self._open_uploads())
                self._listed = True
            failed = [error for each in list(self._abandoned) if (error := self.discard(*each))]
        for error in failed:
            if error.kind is not Kind.UNSUPPORTED:
                raise error

    def discard(self, key: str, upload: str) -> S3Error | None:
        """Abort it; if that fails, it is for the next time."""
        try:
            self._calls.call("AbortMultipartUpload", Key=key, UploadId=upload)
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
                page = self._calls.call("ListMultipartUploads", Prefix=self._calls.prefix, **marker)
            except S3Error as error:
                if error.kind is Kind.UNSUPPORTED:
                    return
                raise
            for upload in page.get("Uploads", ()):
                yield upload["Key"], upload["UploadId"]
            if not page.get("IsTruncated"):
                return
            marker = {
                "KeyMarker": self._calls.field(page, "NextKeyMarker", "ListMultipartUploads"),
                "UploadIdMarker": self._calls.field(
                    page, "NextUploadIdMarker", "ListMultipartUploads"
                ),
            }
