"""Multipart uploads that are open in S3: which there are, what they hold, and their end.

An upload that was cut stays open, for its parts need not be sent again; once all below a prefix is
stored nothing stays open there, for parts are paid for and no listing shows them. Owns both. Must
not know whose bytes the parts are.
"""

from __future__ import annotations

import base64
import hashlib
import threading
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from runner.aws.errors import ErrorKind
from runner.results.s3.calls import Calls, S3Error
from runner.results.s3.etags import parts_of


@dataclass(frozen=True, slots=True)
class Part:
    """A part that S3 holds. ``crc32`` in base64, where S3 knows it."""

    size: int
    etag: str
    crc32: str | None = None

    def holds(self, data: bytes | bytearray) -> bool:
        """Whether it is these bytes: by the checksum that S3 has compared, else by the MD5."""
        if self.size != len(data):
            return False
        if self.crc32 is not None:
            return self.crc32 == crc32(data)
        if parts_of(self.etag) != 0:
            return False
        return self.etag.strip('"') == hashlib.md5(data, usedforsecurity=False).hexdigest()

    def named(self, number: int) -> dict[str, Any]:
        """As CompleteMultipartUpload has it."""
        checksum = {} if self.crc32 is None else {"ChecksumCRC32": self.crc32}
        return {"PartNumber": number, "ETag": self.etag, **checksum}


@dataclass(frozen=True, slots=True)
class Opened:
    """An open upload of a key, and the parts that it has, by number."""

    upload: str
    parts: dict[int, Part]


def crc32(data: bytes | bytearray) -> str:
    """As S3 has it in its headers."""
    return base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()


class OpenUploads:
    """Those below the prefix of ``calls``; keys are ours. From any thread."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._listing = threading.Lock()
        self._lock = threading.Lock()
        self._listed = False
        self._left: dict[str, list[str]] = {}
        self._begun: set[str] = set()

    def begin(self, key: str) -> None:
        """One is about to be created: if the answer is lost, nobody knows of it."""
        with self._lock:
            self._begun.add(key)

    def leave(self, key: str, upload: str) -> None:
        """It was cut; the next try goes on with it."""
        with self._lock:
            self._left.setdefault(key, []).append(upload)

    def take(self, key: str) -> Opened | None:
        """The upload of this key to go on with, the one that has most; others are ended."""
        self._list_once()
        with self._lock:
            uploads = self._left.pop(key, [])
        found: list[Opened] = []
        try:
            for upload in uploads:
                parts = self._parts(key, upload)
                if parts is not None:
                    found.append(Opened(upload, parts))
                else:
                    self.discard(key, upload)
        except BaseException:
            # Of those that haven't been looked at nothing is lost.
            for upload in uploads:
                self.leave(key, upload)
            raise
        found.sort(key=lambda opened: sum(part.size for part in opened.parts.values()))
        best = found.pop() if found else None
        for opened in found:
            self.discard(key, opened.upload)
        return best

    def discard(self, key: str, upload: str) -> S3Error | None:
        """Abort it; if that fails, it is left for the next time."""
        try:
            self._calls.call("AbortMultipartUpload", Key=self._calls.key(key), UploadId=upload)
        except S3Error as error:
            if error.kind is not ErrorKind.MISSING:
                self.leave(key, upload)
                return error
        return None

    def discard_all(self, prefix: str) -> None:
        """Abort all that is open below a prefix of ours, also what we have never heard of.

        What was left by killed processes is listed once for all prefixes; what we have begun
        ourselves is listed again, for the answer to a creation may have been lost. Raises S3Error
        if any couldn't be aborted.
        """
        self._list_once()
        with self._lock:
            begun = {key for key in self._begun if key.startswith(prefix)}
            left = [
                (key, upload)
                for key in [key for key in self._left if key.startswith(prefix)]
                for upload in self._left.pop(key)
            ]
        if begun:
            left += set(self._list(prefix)) - set(left)
        failed = [error for each in left if (error := self.discard(*each))]
        for error in failed:
            if error.kind is not ErrorKind.UNSUPPORTED:
                raise error
        with self._lock:
            self._begun -= begun

    def _parts(self, key: str, upload: str) -> dict[int, Part] | None:
        """What it has; None if it can't be gone on with."""
        parts: dict[int, Part] = {}
        marker: dict[str, Any] = {}
        while True:
            try:
                page = self._calls.call(
                    "ListParts", Key=self._calls.key(key), UploadId=upload, **marker
                )
            except S3Error as error:
                if error.kind in (
                    ErrorKind.UNSUPPORTED,
                    ErrorKind.DENIED,
                    ErrorKind.INVALID,
                    ErrorKind.MISSING,
                ):
                    return None
                raise
            for part in page.get("Parts", ()):
                crc = part.get("ChecksumCRC32")
                parts[part["PartNumber"]] = Part(part["Size"], part["ETag"], crc)
            if not page.get("IsTruncated"):
                return parts
            marker = {
                "PartNumberMarker": self._calls.field(page, "NextPartNumberMarker", "ListParts")
            }

    def _list_once(self) -> None:
        """See what killed processes left open; whoever comes meanwhile waits.

        An upload that began before the list was complete would be taken for one of the dead.
        """
        with self._listing:
            if not self._listed:
                for key, upload in list(self._list("")):
                    self.leave(key, upload)
                self._listed = True

    def _list(self, prefix: str) -> Iterator[tuple[str, str]]:
        marker: dict[str, str] = {}
        while True:
            try:
                page = self._calls.call(
                    "ListMultipartUploads", Prefix=self._calls.key(prefix), **marker
                )
            except S3Error as error:
                if error.kind is ErrorKind.UNSUPPORTED:
                    return
                raise
            for upload in page.get("Uploads", ()):
                yield upload["Key"][len(self._calls.prefix) :], upload["UploadId"]
            if not page.get("IsTruncated"):
                return
            marker = {
                "KeyMarker": self._calls.field(page, "NextKeyMarker", "ListMultipartUploads"),
                "UploadIdMarker": self._calls.field(
                    page, "NextUploadIdMarker", "ListMultipartUploads"
                ),
            }
