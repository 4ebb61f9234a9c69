"""Trying, before any job runs, whether a prefix in S3 can be used."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from runner.aws.errors import ErrorKind
from runner.errors import UsageError
from runner.results.s3.calls import Calls, S3Error
from runner.results.s3.multipart_upload import PartUploads
from runner.results.store import StoreError

_BODY = b"probe"

_KEY = ".runner-probe"
"""Always the same: what a start that was killed left there is removed by the next."""

_READS = 20
"""Times that it is looked for: others who probe the same place just now remove it."""

_FOR_PEOPLE = (
    ErrorKind.DENIED,
    ErrorKind.MISSING,
    ErrorKind.NO_CREDENTIALS,
    ErrorKind.EXPIRED,
    ErrorKind.INVALID,
    ErrorKind.UNSUPPORTED,
)


def probe(calls: Calls, parts: PartUploads, extra: dict[str, str]) -> list[str]:
    """Put, list, read, abort and delete something small. ``extra`` is how it is encrypted.

    Raises UsageError for what only a person can change (no such bucket, no permission, no
    credentials); StoreError where it may pass. What an S3-compatible store can be without is
    returned as notes.
    """
    key = calls.key(_KEY)
    try:
        notes = [
            _try(calls, lambda: _put(calls, parts, extra), optional=False),
            _try(calls, lambda: calls.call("ListObjectsV2", Prefix=calls.prefix, MaxKeys=1)),
            _try(calls, lambda: _read_back(calls, parts, extra), optional=False),
            _try(calls, lambda: _discard_leftovers(calls, parts, key)),
            _try(calls, lambda: _abort(parts)),
            _try(calls, lambda: calls.call("DeleteObject", Key=key)),
        ]
    except BaseException:
        with suppress(StoreError):  # what failed first is what matters
            calls.call("DeleteObject", Key=key)
        raise
    return [note for note in notes if note]


def _put(calls: Calls, parts: PartUploads, extra: dict[str, str]) -> None:
    answer = calls.call(
        "PutObject", Key=calls.key(_KEY), Body=_BODY, **parts.checksum(_BODY), **extra
    )
    calls.field(answer, "ETag", "PutObject")


def _read_back(calls: Calls, parts: PartUploads, extra: dict[str, str]) -> None:
    for left in reversed(range(_READS)):
        try:
            _read(calls, calls.key(_KEY))
            return
        except S3Error as error:
            if error.kind is not ErrorKind.MISSING or not left:
                raise
        _put(calls, parts, extra)


def _read(calls: Calls, key: str) -> None:
    answer = calls.call("GetObject", Key=key)
    with calls.translated("GetObject", key):
        if answer["Body"].read() != _BODY:
            raise StoreError(f"{calls.describe()}: what was stored there doesn't come back")


def _discard_leftovers(calls: Calls, parts: PartUploads, key: str) -> None:
    """See what is open; of that the probe's own is left by a start that was killed."""
    page = calls.call("ListMultipartUploads", Prefix=key)
    for upload in page.get("Uploads", ()):
        if upload["Key"] == key:
            parts.open.discard(_KEY, upload["UploadId"])


def _abort(parts: PartUploads) -> None:
    if (error := parts.open.discard(_KEY, parts.create(_KEY))) is not None:
        raise error


def _try(calls: Calls, attempt: Callable[[], object], *, optional: bool = True) -> str | None:
    try:
        attempt()
    except S3Error as error:
        if error.kind is ErrorKind.UNSUPPORTED and optional:
            return f"{calls.describe()}: {error}: done without"
        if error.kind in _FOR_PEOPLE:
            raise UsageError(f"results in {error}") from error
        raise
    return None
