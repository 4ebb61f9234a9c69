"""Calls to one bucket of S3, and what its refusals mean in our words.

Owns the operations we use with the permission each needs, and new credentials for expired ones.
Must not know what is stored.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

from runner.aws.clients import S3Client
from runner.aws.errors import AwsError, ErrorKind, calling, translate
from runner.aws.request_body import Body
from runner.results.store import RefusedError, StoreError

_PERMISSIONS = {
    "PutObject": "s3:PutObject",
    "GetObject": "s3:GetObject",
    "HeadObject": "s3:GetObject",
    "DeleteObject": "s3:DeleteObject",
    "ListObjectsV2": "s3:ListBucket",
    "ListMultipartUploads": "s3:ListBucketMultipartUploads",
    "ListParts": "s3:ListMultipartUploadParts",
    "AbortMultipartUpload": "s3:AbortMultipartUpload",
    "CreateMultipartUpload": "s3:PutObject",
    "UploadPart": "s3:PutObject",
    "CompleteMultipartUpload": "s3:PutObject",
}
"""Service Authorization Reference, "Actions, resources, and condition keys for Amazon S3"."""

_METHODS = {
    "PutObject": "put_object",
    "GetObject": "get_object",
    "HeadObject": "head_object",
    "DeleteObject": "delete_object",
    "ListObjectsV2": "list_objects_v2",
    "ListMultipartUploads": "list_multipart_uploads",
    "ListParts": "list_parts",
    "AbortMultipartUpload": "abort_multipart_upload",
    "CreateMultipartUpload": "create_multipart_upload",
    "UploadPart": "upload_part",
    "CompleteMultipartUpload": "complete_multipart_upload",
}


TRIES = 4
"""Tries of a call whose failure costs more than itself; botocore makes some of each."""

FIRST_PAUSE = 0.5
"""Seconds before the second try; each next pause is twice as long."""

_PASSING = frozenset({ErrorKind.PASSING, ErrorKind.CONFLICT, ErrorKind.EXPIRED})

T = TypeVar("T")

Clients = tuple[S3Client, S3Client]
"""For most calls, and for those that take long to answer."""


class S3Error(StoreError):
    """A StoreError that knows what S3 meant."""

    def __init__(self, kind: ErrorKind, code: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.code = code


class S3RefusedError(S3Error, RefusedError):
    """Of kind INVALID or DENIED: S3 would refuse the same call again."""


class Calls:
    """The calls below ``s3://bucket/prefix/``, from any thread. Once ``closed`` there are none."""

    def __init__(
        self, bucket: str, prefix: str, connections: int, clients: Clients | None = None
    ) -> None:
        self.bucket = bucket
        self.prefix = f"{prefix}/" if prefix else ""
        self.closed = False
        self.clients = clients or (S3Client(connections), S3Client(1, long_reads=True))
        self._s3, self._s3_for_long = self.clients

    @property
    def compatible_only(self) -> bool:
        """See S3Client."""
        return self._s3.compatible_only

    def describe(self) -> str:
        """``s3://bucket/prefix``."""
        return f"s3://{self.bucket}/{self.prefix}".removesuffix("/")

    def key(self, key: str) -> str:
        """A key of ours as S3 knows it."""
        return self.prefix + key

    def call(self, operation: str, **arguments: Any) -> Any:
        """One operation, by S3's name for it. Raises StoreError."""

        body = arguments.get("Body")

        def call(client: Any) -> Any:
            if isinstance(body, Body):
                body.seek(0)
            return getattr(client, _METHODS[operation])(Bucket=self.bucket, **arguments)

        return self.ask(operation, arguments.get("Key"), call)

    def patiently(self, call: Callable[[], T], check: Callable[[], None]) -> T:
        """What ``call`` returns; what passes is tried again after a little while.

        ``check`` ends it by raising. Raises what the last try did.
        """
        pause = FIRST_PAUSE
        for left in reversed(range(TRIES)):
            try:
                return call()
            except S3Error as error:
                if not left or self.closed or error.kind not in _PASSING:
                    raise
            check()
            time.sleep(pause)
            pause *= 2
        raise AssertionError

    def ask(self, operation: str, key: str | None, ask: Callable[[Any], Any]) -> Any:
        """One call; once more with new credentials if these have expired. Raises StoreError."""
        if self.closed and operation != "AbortMultipartUpload":
            # By a thread that nobody waited for: others may write to these keys by now.
            raise StoreError(f"{self.describe()}: {operation} came after the store was closed")
        s3 = self._s3_for_long if operation == "CompleteMultipartUpload" else self._s3
        for again in (True, False):
            client = None
            try:
                client = s3.get()
                return ask(client)
            except Exception as error:
                ours = translate(error)
                if ours is None:
                    raise
                if ours.kind is ErrorKind.EXPIRED and again and client is not None:
                    s3.forget(client)
                    continue
                raise self._error(operation, key, ours) from error
        raise AssertionError

    def field(self, answer: dict[str, Any], name: str, operation: str) -> Any:
        """What S3 always tells; a proxy's login page, which comes with status 200, doesn't."""
        try:
            return answer[name]
        except KeyError:
            text = f"{self.describe()}: {operation} was answered without {name}: is this S3?"
            raise StoreError(text) from None

    def translated(self, operation: str, key: str | None) -> Any:
        """A context in which what boto3 raises becomes a StoreError about this operation."""
        return calling(lambda ours: self._error(operation, key, ours))

    def _error(self, operation: str, key: str | None, ours: AwsError) -> S3Error:
        where = f"s3://{self.bucket}/{key or self.prefix}".removesuffix("/")
        match ours.kind:
            case ErrorKind.DENIED:
                wanted = _PERMISSIONS[operation]
                text = f"{where}: {operation} was denied ({ours}); it needs the permission {wanted}"
            case ErrorKind.MISSING if ours.code == "NoSuchBucket":
                text = f"s3://{self.bucket}: there is no such bucket"
            case ErrorKind.UNSUPPORTED:
                text = f"the store doesn't know {operation} ({ours})"
            case _:
                text = f"{where}: {operation} failed: {ours}"
        refused = ours.kind in (ErrorKind.INVALID, ErrorKind.DENIED)
        return (S3RefusedError if refused else S3Error)(ours.kind, ours.code, text)
