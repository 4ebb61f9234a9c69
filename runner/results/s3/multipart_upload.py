"""Large files to S3, in parts: they become an object all at once, and no part is sent twice.

Owns the parts' sizes and checksums, what is in memory of them, and going on with an upload that
was cut, by this process or by one before it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait

from runner.aws.errors import ErrorKind
from runner.aws.request_body import Body
from runner.results.s3.calls import Calls, S3Error
from runner.results.s3.etags import parts_of
from runner.results.s3.open_uploads import Opened, OpenUploads, Part, crc32
from runner.results.store import Entry, StoreError
from runner.results.upload.file_reader import Budget, FileReader
from runner.results.upload.progress import Progress
from runner.results.upload.source_file import SourceError

PART = 8 << 20
"""Bytes of a part, and of the largest file that goes up in one piece."""

MAX_PARTS = 10_000
"""S3 User Guide, "Amazon S3 multipart upload limits"."""

IN_FLIGHT = 5 * PART
"""Bytes of parts that are in memory at once, whatever their number and size."""

ASKED_FIRST = 1 << 20
"""Bytes from which on S3 is asked first whether it takes a body: it costs a round trip."""


class OtherPartsError(StoreError):
    """S3 holds other parts than it has told us: what it holds is to be looked at."""


class PartUploads:
    """``extra`` goes with each object (encryption, class); ``room`` is shared with small files."""

    def __init__(self, calls: Calls, extra: dict[str, str], threads: ThreadPoolExecutor) -> None:
        self.room = Budget(IN_FLIGHT)
        self.open = OpenUploads(calls)
        self._calls = calls
        self.extra = extra
        self._threads = threads

    def create(self, key: str) -> str:
        """Open a multipart upload; which checksums its parts have is to be told beforehand."""
        known = {} if self._calls.compatible_only else {"ChecksumAlgorithm": "CRC32"}
        self.open.begin(key)
        answer = self._calls.call(
            "CreateMultipartUpload", Key=self._calls.key(key), **known, **self.extra
        )
        return str(self._calls.field(answer, "UploadId", "CreateMultipartUpload"))

    def find(self, key: str, reader: FileReader) -> str | None:
        """The ETag of what the key holds, if that is the file already: all of it was sent once, and
        nobody heard of its end. The file is read where size and number of parts are the same."""
        entry = self._calls.patiently(lambda: self._look_up(key), reader.source.check)
        if entry is None or entry.size != reader.size:
            return None
        size = self._part_size(reader)
        if parts_of(entry.etag) != -(-reader.size // size):
            return None
        progress = reader.source.progress or Progress()
        digests = []
        while reader.done < reader.size:
            with progress.working():
                data = reader.read(size)
            if not data:
                return None
            digests.append(hashlib.md5(data, usedforsecurity=False).digest())
        return entry.etag if _joined(digests) == entry.etag else None

    def _part_size(self, reader: FileReader) -> int:
        return max(PART, -(-reader.size // MAX_PARTS))

    def put(self, key: str, reader: FileReader) -> str:
        """Parts go up in parallel while the next are read; the object's ETag.

        Parts that an upload which was cut has stored already are only compared. One that fails
        stays open, for the next try.
        """
        opened = self.open.take(key) or Opened(self.create(key), {})
        try:
            parts = self._send(key, opened, reader)
            etag = self._complete(key, opened.upload, parts, reader)
        except S3Error as error:
            if error.kind is not ErrorKind.MISSING:
                self.open.leave(key, opened.upload)
            raise
        except SourceError:
            self.open.discard(key, opened.upload)  # it can't be read: there is no going on
            raise
        except BaseException:
            self.open.leave(key, opened.upload)
            raise
        if reader.source.progress is not None:
            reader.source.progress.made()
        return etag

    def _send(self, key: str, opened: Opened, reader: FileReader) -> list[Part]:
        size = self._part_size(reader)
        progress = reader.source.progress or Progress()
        sending: list[Part | Future[Part]] = []
        try:
            while reader.done < reader.size:
                if any(isinstance(f, Future) and f.done() and f.exception() for f in sending):
                    break
                number, start = len(sending) + 1, reader.done
                self.room.take(size)
                try:
                    data, part = _read(reader, size, opened.parts.get(number), progress)
                except BaseException:
                    self.room.give(size)
                    raise
                if part is not None or not data:
                    self.room.give(size)
                    if part is None:
                        break  # it has become shorter
                    sending.append(part)
                    continue
                sent = _Sent(progress, key, start)
                arguments = key, opened.upload, number, data, size, sent, reader
                sending.append(self._threads.submit(self._put_part, *arguments))
                del data, arguments  # while we wait for room only the budget's parts are in memory
            done = [part if isinstance(part, Part) else part.result() for part in sending]
            sent = _Sent(progress, key, 0)
            return done or [self._put_part(key, opened.upload, 1, b"", 0, sent, reader)]
        except BaseException as error:
            futures = [part for part in sending if isinstance(part, Future)]
            for future in futures:
                if future.cancel():
                    self.room.give(size)
            wait(futures)  # a part that arrives after an abort would stay, and be paid for
            if self._calls.closed and isinstance(error, CancelledError | RuntimeError):
                raise StoreError(f"{key!r} isn't stored: the store was closed") from error
            raise

    def _put_part(
        self,
        key: str,
        upload: str,
        number: int,
        data: bytes | bytearray,
        room: int,
        sent: _Sent,
        reader: FileReader,
    ) -> Part:
        try:
            checksum = self.checksum(data)
            answer = self._calls.patiently(
                lambda: self._calls.call(
                    "UploadPart",
                    Key=self._calls.key(key),
                    UploadId=upload,
                    PartNumber=number,
                    Body=body_of(data, sent),
                    **checksum,
                ),
                reader.source.check,
            )
            sent(len(data))
        finally:
            self.room.give(room)
        etag = self._calls.field(answer, "ETag", "UploadPart")
        return Part(len(data), str(etag), checksum.get("ChecksumCRC32"))

    def _complete(self, key: str, upload: str, parts: list[Part], reader: FileReader) -> str:
        """Make them an object. Where nobody can tell whether that was done, it is looked up."""
        named = {"Parts": [part.named(number) for number, part in enumerate(parts, 1)]}
        etag = _etag_of(parts)

        def complete() -> str:
            try:
                answer = self._calls.call(
                    "CompleteMultipartUpload",
                    Key=self._calls.key(key),
                    UploadId=upload,
                    MultipartUpload=named,
                )
                return str(self._calls.field(answer, "ETag", "CompleteMultipartUpload"))
            except S3Error as error:
                if error.kind is ErrorKind.DENIED:
                    raise
                if error.code == "InvalidPart":
                    raise OtherPartsError(str(error)) from error
                if etag is not None and self._has(key, etag):
                    return etag
                raise

        return self._calls.patiently(complete, reader.source.check)

    def _has(self, key: str, etag: str) -> bool:
        """Whether the key holds this object. Raises S3Error where nobody can tell.

        Looked at twice before all of a file is sent again.
        """
        found = [self._look_up(key) for _ in range(2)]
        return any(entry is not None and entry.etag == etag for entry in found)

    def _look_up(self, key: str) -> Entry | None:
        """What the key holds. Asked by a GET: of what is wrong a HEAD tells only a number."""
        try:
            answer = self._calls.call("GetObject", Key=self._calls.key(key), Range="bytes=0-0")
        except S3Error as error:
            if error.kind in (ErrorKind.PASSING, ErrorKind.CONFLICT, ErrorKind.EXPIRED):
                raise
            return None
        answer["Body"].close()
        whole = str(answer.get("ContentRange", "")).rpartition("/")[2]
        return Entry(key, int(whole) if whole.isdecimal() else 0, str(answer.get("ETag")))

    def checksum(self, data: bytes | bytearray) -> dict[str, str]:
        """What S3 compares a body with; a store that may not know it checks the signed payload.

        The CRC is told and not left to boto3: S3 wants each part's again when an upload is
        completed (API reference, "CompleteMultipartUpload"), and boto3 copies what it hashes.
        """
        return {} if self._calls.compatible_only else {"ChecksumCRC32": crc32(data)}


class _Sent:
    """How far a piece of a file has been sent."""

    def __init__(self, progress: Progress, key: str, start: int) -> None:
        self._progress, self._key, self._start = progress, key, start

    def __call__(self, count: int) -> None:
        self._progress.sent(self._key, self._start, count)


def body_of(data: bytes | bytearray, sent: Callable[[int], None]) -> Body | bytes | bytearray:
    """What is given to boto3 as a body."""
    return data if len(data) < ASKED_FIRST else Body(data, sent)


def _read(
    reader: FileReader, size: int, part: Part | None, progress: Progress
) -> tuple[bytearray, Part | None]:
    """The next bytes of a file, and the part that holds them already, if it does."""
    if part is None:
        return reader.read(size), None
    with progress.working():
        data = reader.read(size)
        return data, part if part.holds(data) else None


def _etag_of(parts: list[Part]) -> str | None:
    """The ETag of the object that they become; None where theirs are no digests."""
    if any(parts_of(part.etag) != 0 for part in parts):
        return None
    return _joined([bytes.fromhex(part.etag.strip('"')) for part in parts])


def _joined(digests: list[bytes]) -> str:
    """The ETag of an object in parts with these MD5s."""
    whole = hashlib.md5(b"".join(digests), usedforsecurity=False).hexdigest()
    return f'"{whole}-{len(digests)}"'
