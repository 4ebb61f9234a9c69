"""Fetching one very version of an object, and telling by its ETag whether that is what came."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any

from runner.aws.errors import ErrorKind
from runner.results.file_copy import write_at
from runner.results.s3 import multipart_upload
from runner.results.s3.calls import Calls, S3Error
from runner.results.s3.etags import etag_in_parts, parts_of, plain_etag
from runner.results.store import Entry, StoreError

RANGES = 4
"""Ranges of one file that are fetched at once."""

_CHUNK = 128 << 10
"""Bytes that are read at a time: of a body that breaks off so many are lost."""
_EXPRESS = "--x-s3"
"""S3 User Guide, "Directory buckets": how their names end; their ETags are no digests."""


_TRIES = 4
"""Tries of a body that bring nothing: botocore tries again only what comes before it."""


def _go_on() -> None:
    """Nobody ends it."""


@dataclass(frozen=True, slots=True)
class _Range:
    """Bytes from ``start`` up to ``end``."""

    start: int
    end: int


class _BrokenOffError(StoreError):
    """A body came up to ``at`` and no further."""

    def __init__(self, message: str, at: int) -> None:
        super().__init__(message)
        self.at = at


def _part_at(entry: Entry, start: int) -> _Range:
    return _Range(start, min(start + multipart_upload.PART, entry.size))


class Versions:
    """``threads`` fetch ranges; they are shared with what goes up."""

    def __init__(self, calls: Calls, threads: ThreadPoolExecutor) -> None:
        self._calls = calls
        self._threads = threads

    def look_up(self, key: str) -> Entry | None:
        """One key, as `list` tells it; None if there is no such key."""
        try:
            answer = self._calls.call("HeadObject", Key=self._calls.key(key))
        except S3Error as error:
            if error.kind is ErrorKind.PASSING:
                raise
            answer = self._look_closer(key)
        if answer is None:
            return None
        size = self._calls.field(answer, "ContentLength", "HeadObject")
        return Entry(key, size, self._calls.field(answer, "ETag", "HeadObject"))

    def _look_closer(self, key: str) -> Any:
        """A GET's answer: that to a HEAD has no body, to say that it is the bucket that is missing,
        or the credentials that have expired."""
        try:
            answer = self._calls.call("GetObject", Key=self._calls.key(key))
        except S3Error as error:
            if error.kind is ErrorKind.MISSING and error.code != "NoSuchBucket":
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
        is_digest = self._get_range(entry, target, _part_at(entry, 0), between)
        self._get_rest(entry, target, multipart_upload.PART, between)
        return self._etag_of(entry, target, between) if is_digest else entry.etag

    def get_newest(self, key: str, target: int, size: int | None) -> bool:
        """Write what a key holds into the empty file `target`; False if there is no such key.

        One request for what fits into a part. `size`: what it should have, where that is known:
        what fits is asked for as a whole, for not every store takes a range of an empty object.
        """
        try:
            answer = self._calls.patiently(lambda: self._begin(key, size), _go_on)
        except S3Error as error:
            if error.kind is ErrorKind.MISSING and error.code != "NoSuchBucket":
                return False
            raise
        end = self._calls.field(answer, "ContentLength", "GetObject")
        whole = str(answer.get("ContentRange", "")).rpartition("/")[2]
        found = int(whole) if whole.isdecimal() else end
        entry = Entry(key, found, self._calls.field(answer, "ETag", "GetObject"))
        self._get_range(entry, target, _Range(0, end), _go_on, answer)
        self._get_rest(entry, target, end, _go_on)
        return True

    def _begin(self, key: str, size: int | None) -> Any:
        if size is not None and size <= multipart_upload.PART:
            return self._calls.call("GetObject", Key=self._calls.key(key))
        first = f"bytes=0-{multipart_upload.PART - 1}"
        try:
            return self._calls.call("GetObject", Key=self._calls.key(key), Range=first)
        except S3Error as error:
            if error.code != "InvalidRange":
                raise
            return self._calls.call("GetObject", Key=self._calls.key(key))  # it is empty

    def _get_rest(self, entry: Entry, target: int, first: int, between: Callable[[], None]) -> None:
        begun: deque[Future[bool]] = deque()
        try:
            for start in range(first, entry.size, multipart_upload.PART):
                part = _part_at(entry, start)
                begun.append(self._threads.submit(self._get_range, entry, target, part, between))
                if len(begun) >= RANGES:
                    begun.popleft().result()
            while begun:
                begun.popleft().result()
        except (CancelledError, RuntimeError) as error:
            if not self._calls.closed:
                raise
            raise StoreError(f"{entry.key!r} hasn't come: the store was closed") from error
        finally:
            for future in begun:
                future.cancel()
            wait(begun)  # once we are gone the descriptor may be another file's

    def _get_range(
        self,
        entry: Entry,
        target: int,
        part: _Range,
        between: Callable[[], None],
        answer: Any = None,
    ) -> bool:
        """Fetch a part; whether the ETag is a digest, as far as the answer tells.

        A body that breaks off is gone on with from there, as long as each try brings something.
        ``answer``: the first try's, where it has been asked for already.
        """
        at, tries = part.start, _TRIES
        while True:
            left = _Range(at, part.end)
            if answer is None:
                answer = self._calls.patiently(partial(self._ask, entry, left), between)
            try:
                self._write(answer, entry, target, left, between)
                break
            except _BrokenOffError as error:
                tries = _TRIES if error.at > at else tries - 1
                if not tries:
                    raise
                at, answer = error.at, None
        by_kms = str(answer.get("ServerSideEncryption", "")).startswith("aws:kms")
        return not by_kms and "SSECustomerAlgorithm" not in answer

    def _ask(self, entry: Entry, wanted: _Range) -> Any:
        is_all = (wanted.start, wanted.end) == (0, entry.size)
        extra = {} if is_all else {"Range": f"bytes={wanted.start}-{wanted.end - 1}"}
        if entry.etag:
            extra["IfMatch"] = entry.etag
        return self._calls.call("GetObject", Key=self._calls.key(entry.key), **extra)

    def _write(
        self, answer: Any, entry: Entry, target: int, wanted: _Range, between: Callable[[], None]
    ) -> None:
        """Write an answer's body to its place. Raises _BrokenOffError if that isn't all of it."""
        at, end = wanted.start, wanted.end
        where = f"s3://{self._calls.bucket}/{self._calls.key(entry.key)}"
        other = f"{where}: other than the {end - at} bytes that were asked for came"
        try:
            with (
                self._calls.translated("GetObject", self._calls.key(entry.key)),
                closing(answer["Body"]) as body,
            ):
                if answer.get("ContentLength", end - at) != end - at:
                    raise _BrokenOffError(other, at)
                while data := body.read(_CHUNK):
                    between()
                    if at + len(data) > end:
                        raise _BrokenOffError(other, wanted.start)
                    write_at(target, data, at)
                    at += len(data)
        except S3Error as error:
            if error.kind is not ErrorKind.PASSING:
                raise
            raise _BrokenOffError(str(error), at) from error
        if at != end:
            raise _BrokenOffError(other, at)

    def _etag_of(self, entry: Entry, target: int, between: Callable[[], None]) -> str:
        parts = parts_of(entry.etag)
        if parts is None or self._calls.bucket.endswith(_EXPRESS):
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
            answer = self._calls.call("HeadObject", Key=self._calls.key(entry.key), PartNumber=1)
        except S3Error as error:
            if error.kind in (ErrorKind.UNSUPPORTED, ErrorKind.INVALID, ErrorKind.CONFLICT):
                return None
            raise
        return answer.get("ContentLength") or None
