"""The bucket that a launch ships through: whether it is there, and where; writing to it.

Owns the few calls of a launch to S3, by whole keys, from a laptop. Blocks; raises AwsError.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from runner.aws.clients import S3Client
from runner.aws.errors import AwsError, ErrorKind, calling
from runner.errors import RecordError, UsageError
from runner.model.records import decode
from runner.targets.ec2 import names

CONNECTIONS = 10

_SMALL = 64 * 1024

_PROBE = f"{names.FOLDER}/.probe"


@dataclass(frozen=True, slots=True)
class StoredText:
    """A small object. ``age``: seconds since it was written, by S3's own clock."""

    data: bytes
    etag: str
    age: float

    @property
    def json(self) -> dict[str, Any]:
        """Empty for what is no JSON object."""
        try:
            value = decode(self.data, "an object")
        except RecordError:
            return {}
        return value if isinstance(value, dict) else {}


class LaunchBucket:
    """One bucket. ``region``: the one it is in, "" until ``check``."""

    def __init__(self, name: str, region: str | None) -> None:
        self.name = name
        self.region = ""
        self._s3 = S3Client(CONNECTIONS, region)

    def _call(self, operation: str, **parameters: Any) -> Any:
        with calling(lambda error: error):
            return getattr(self._s3.get(), operation)(Bucket=self.name, **parameters)

    def check(self) -> None:
        """Learn the region, and try to write. Raises UsageError for what only a person can change.

        Writes one small object and removes it: no other call says whether writing is allowed.
        """
        self.region = self._region()
        try:
            self._call("put_object", Key=_PROBE, Body=b"")
        except AwsError as error:
            if error.kind is ErrorKind.DENIED:
                raise UsageError(
                    f"s3://{self.name} can't be written ({error}): a launch needs s3:PutObject "
                    f"on {names.FOLDER}/*"
                ) from error
            raise
        with suppress(AwsError):
            self._call("delete_object", Key=_PROBE)

    def _region(self) -> str:
        """HeadBucket names the region also where it refuses (S3 API reference)."""
        try:
            answer = self._call("head_bucket")
        except AwsError as error:
            if error.kind is ErrorKind.MISSING:
                raise UsageError(
                    f"result_s3_bucket: there is no bucket {self.name}; make it with: "
                    f"aws s3 mb s3://{self.name}"
                ) from error
            if error.kind is ErrorKind.DENIED:
                raise UsageError(
                    f"result_s3_bucket: {self.name} is denied ({error}): it is another account's, "
                    "or s3:ListBucket is missing"
                ) from error
            raise
        headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        told = answer.get("BucketRegion") or headers.get("x-amz-bucket-region")
        return str(told or "us-east-1")

    def has(self, key: str) -> bool:
        """Whether there is such an object."""
        try:
            self._call("head_object", Key=key)
        except AwsError as error:
            if error.kind is ErrorKind.MISSING:
                return False
            raise
        return True

    def put(self, key: str, data: bytes) -> None:
        """A small object, as a whole."""
        self._call("put_object", Key=key, Body=data)

    def get(self, key: str, most: int | None = None) -> bytes | None:
        """An object as a whole, or its first ``most`` bytes; None if there is none."""
        try:
            answer = self._call("get_object", Key=key)
        except AwsError as error:
            if error.kind is ErrorKind.MISSING and error.code != "NoSuchBucket":
                return None
            raise
        with calling(lambda error: error):
            data: bytes = answer["Body"].read(most)
            answer["Body"].close()
        return data

    def put_json(self, key: str, value: Any) -> None:
        """A small object for programs."""
        data = f"{json.dumps(value)}\n".encode()
        self._call("put_object", Key=key, Body=data, ContentType="application/json")

    def get_json(self, key: str) -> dict[str, Any]:
        """A small object of a program; empty if there is none, or it is no JSON object."""
        found = self.stored(key)
        return found.json if found is not None else {}

    def stored(self, key: str) -> StoredText | None:
        """A small object with its ETag and age; None if there is none."""
        try:
            answer = self._call("get_object", Key=key)
        except AwsError as error:
            if error.kind is ErrorKind.MISSING and error.code != "NoSuchBucket":
                return None
            raise
        with calling(lambda error: error):
            data = answer["Body"].read(_SMALL)
            answer["Body"].close()
        return StoredText(data, str(answer["ETag"]), age_of(answer))

    def keys(self, prefix: str) -> list[str]:
        """All keys that begin so."""
        return list(self.etags(prefix))

    def etags(self, prefix: str) -> dict[str, str]:
        """The ETags of all objects whose keys begin so, by key."""
        with calling(lambda error: error):
            pages = self._s3.get().get_paginator("list_objects_v2")
            found = pages.paginate(Bucket=self.name, Prefix=prefix)
            return {
                item["Key"]: str(item["ETag"])
                for page in found
                for item in page.get("Contents", ())
            }

    def delete(self, key: str) -> None:
        """One object, if it is there."""
        self._call("delete_object", Key=key)

    def swap_json(self, key: str, value: Any, etag: str | None) -> str:
        """As ``put_json``, if the object still has this ETag (None: doesn't exist); the new ETag.

        Raises AwsError; its kind is CONFLICT where it has changed.
        """
        expected = {"IfMatch": etag} if etag else {"IfNoneMatch": "*"}
        data = f"{json.dumps(value)}\n".encode()
        told = {"Key": key, "Body": data, "ContentType": "application/json"}
        try:
            answer = self._call("put_object", **told, **expected)
        except AwsError as error:
            if error.kind is not ErrorKind.UNSUPPORTED:
                raise
            answer = self._call("put_object", **told)  # a store that is only S3-compatible
        return str(answer.get("ETag", ""))

    def head_of(self, key: str, size: int, etag: str) -> tuple[bytes, str]:
        """Up to so many bytes of an object, and its ETag. Raises AwsError, with the code 304 where
        it has this ETag still."""
        data, etag, _ = self.part_of(key, size, etag)
        return data, etag

    def part_of(self, key: str, size: int, etag: str) -> tuple[bytes, str, float | None]:
        """The same, and when it was stored: seconds since the epoch by S3's clock."""
        unless = {"IfNoneMatch": etag} if etag else {}
        answer = self._call("get_object", Key=key, Range=f"bytes=0-{size - 1}", **unless)
        with calling(lambda error: error):
            stored = answer.get("LastModified")
            when = None if stored is None else float(stored.timestamp())
            return answer["Body"].read(), str(answer["ETag"]), when

    def fetch(self, key: str, path: Path) -> None:
        """A whole object into a file."""
        with calling(lambda error: error):
            self._s3.get().download_file(self.name, key, str(path))

    def put_file(self, key: str, path: Path, progress: Callable[[int, int], None]) -> None:
        """A file, in pieces if it is large. ``progress``: bytes more to come, bytes done."""
        from boto3.exceptions import S3UploadFailedError

        progress(path.stat().st_size, 0)
        with calling(lambda error: error):
            try:
                self._s3.get().upload_file(
                    str(path), self.name, key, Callback=lambda done: progress(0, done)
                )
            except S3UploadFailedError as error:
                raise error.__cause__ or error.__context__ or error


def age_of(answer: Mapping[str, Any]) -> float:
    """Seconds since an object was written, by S3's clock alone: this computer's may be wrong."""
    modified = answer.get("LastModified")
    told = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date", "")
    if modified is None:
        return 0.0
    try:
        now = datetime.strptime(told, "%a, %d %b %Y %H:%M:%S %Z").replace(tzinfo=modified.tzinfo)
    except ValueError:
        return max(0.0, time.time() - float(modified.timestamp()))
    return max(0.0, float((now - modified).total_seconds()))


def sha256_of(path: Path) -> str:
    """In hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
