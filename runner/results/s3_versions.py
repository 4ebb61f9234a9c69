"""Fetching one very version of an object, and telling by its ETag whether that is what came."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from contextlib import closing
from typing import Any

from runner.aws.faults import Kind
from runner.results import s3_parts
from runner.results.copying import write_at
from runner.results.etags import etag_in_parts, parts_of, plain_etag
from runner.results.s3_calls import Calls, S3Error
from runner.results.store import Entry, StoreError

RANGES = 4
"""Ranges of one file that are fetched at once."""

_CHUNK = 1 << 20
_EXPRESS = "--x-s3"
"""S3 User Guide, "Directory buckets": how their names end; their ETags are no digests."""


_TRIES = 3
"""Tries of a body that breaks off: botocore tries again only what comes before it."""


def _go_on() -> None:
    """Nobody ends it."""


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
            if error.kind is Kind.PASSING:
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
        self._get_rest(entry, target, s3_parts.PART, between)
        return self._etag_of(entry, target, between) if is_digest else entry.etag

    def get_newest(self, key: str, target: int) -> bool:
        """Write what a key holds into the empty file `target`; False if there is no such key.

        One request for what fits into a part: how large it is comes with the first of it.
        """
        for tries in reversed(range(_TRIES)):
            try:
                answer = self._begin(key)
            except S3Error as error:
                if error.kind is Kind.MISSING and error.code != "NoSuchBucket":
                    return False
                raise
            end = self._calls.field(answer, "ContentLength", "GetObject")
            whole = str(answer.get("ContentRange", "")).rpartition("/")[2]
            size = int(whole) if whole.isdecimal() else end
            entry = Entry(key, size, self._calls.field(answer, "ETag", "GetObject"))
            try:
                self._write(answer, entry, target, 0, end, _go_on)
            except StoreError:
                if not tries:
                    raise
                continue
            self._get_rest(entry, target, end, _go_on)
            return True
        raise AssertionError

    def _begin(self, key: str) -> Any:
        first = f"bytes=0-{s3_parts.PART - 1}"
        try:
            return self._calls.call("GetObject", Key=self._calls.key(key), Range=first)
        except S3Error as error:
            if error.code != "InvalidRange":
                raise
            return self._calls.call("GetObject", Key=self._calls.key(key))  # it is empty

    def _get_rest(self, entry: Entry, target: int, first: int, between: Callable[[], None]) -> None:
        begun: deque[Future[bool]] = deque()
        try:
            for start in range(first, entry.size, s3_parts.PART):
                begun.append(self._threads.submit(self._get_range, entry, target, start, between))
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
        self, entry: Entry, target: int, start: int, between: Callable[[], None]
    ) -> bool:
        """Fetch up to a part; whether the ETag is a digest, as far as the answer tells."""
        end = min(start + s3_parts.PART, entry.size)
        extra = {"Range": f"bytes={start}-{end - 1}"} if entry.size > s3_parts.PART else {}
        if entry.etag:
            extra["IfMatch"] = entry.etag
        for tries in reversed(range(_TRIES)):
            answer = self._calls.call("GetObject", Key=self._calls.key(entry.key), **extra)
            try:
                self._write(answer, entry, target, start, end, between)
                break
            except StoreError:
                if not tries:
                    raise
        by_kms = str(answer.get("ServerSideEncryption", "")).startswith("aws:kms")
        return not by_kms and "SSECustomerAlgorithm" not in answer

    def _write(
        self,
        answer: Any,
        entry: Entry,
        target: int,
        start: int,
        end: int,
        between: Callable[[], None],
    ) -> None:
        """Write an answer's body to its place. Raises StoreError if that isn't what was meant."""
        at = start
        with (
            self._calls.told("GetObject", self._calls.key(entry.key)),
            closing(answer["Body"]) as body,
        ):
            while data := body.read(_CHUNK):
                between()
                if at + len(data) > end:
                    break
                write_at(target, data, at)
                at += len(data)
        if at != end or data:
            where = f"s3://{self._calls.bucket}/{self._calls.key(entry.key)}"
            raise StoreError(
                f"{where}: other than the {end - start} bytes that were asked for came"
            )

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
            if error.kind in (Kind.UNSUPPORTED, Kind.INVALID, Kind.CONFLICT):
                return None
            raise
        return answer.get("ContentLength") or None
