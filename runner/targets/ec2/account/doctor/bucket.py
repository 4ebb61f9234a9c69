"""The bucket for results: there, where, encrypted, and whether we may write, read, list, delete."""

from __future__ import annotations

import uuid
from typing import Any

from runner.aws.clients import S3Client
from runner.aws.errors import AwsError, ErrorKind, calling, part_of
from runner.targets.ec2 import names
from runner.targets.ec2.account.doctor.findings import Finding, fail, ok, warn

_BODY = b"doctor"


def check_bucket(name: str, region: str) -> list[Finding]:
    """What there is to say of one bucket. Writes one small object, and removes it."""
    bucket = _Bucket(name, region)
    there = bucket.there()
    if there[-1].todo:
        return there
    return [*there, bucket.encrypted(), bucket.used()]


class _Bucket:
    def __init__(self, name: str, region: str) -> None:
        self._name, self._region = name, region
        self._check = f"bucket {name}"
        self._client = S3Client(1, region).get()

    def _call(self, operation: str, **more: Any) -> Any:
        with calling(lambda error: error):
            return getattr(self._client, operation)(Bucket=self._name, **more)

    def there(self) -> list[Finding]:
        try:
            answer = self._call("head_bucket")
        except AwsError as error:
            return [self._not_there(error)]
        headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        where = str(answer.get("BucketRegion") or headers.get("x-amz-bucket-region") or "us-east-1")
        if where == self._region:
            return [ok(self._check, f"in {where}")]
        # Not something to be mended: the rest is looked at all the same.
        return [warn(self._check, f"in {where}: a machine in {self._region} pays for transfer")]

    def _not_there(self, error: AwsError) -> Finding:
        if error.kind is ErrorKind.MISSING:
            todo = f"`runner setup --create-bucket {self._name}`"
            return fail(self._check, "there is no such bucket", todo)
        if error.kind is ErrorKind.DENIED:
            todo = "another name, if it is another account's; else the policy runner-launch"
            return fail(self._check, "denied: it is another account's, or s3:ListBucket is missing",
                        todo)  # fmt: skip
        return fail(self._check, str(error), "try again")

    def encrypted(self) -> Finding:
        check = f"{self._check}: encryption"
        try:
            answer = self._call("get_bucket_encryption")
            rules = ("ServerSideEncryptionConfiguration", "Rules", 0)
            how = part_of(
                answer, "GetBucketEncryption", *rules, "ApplyServerSideEncryptionByDefault"
            )
            algorithm = part_of(how, "GetBucketEncryption", "SSEAlgorithm")
        except AwsError as error:
            if error.code == "ServerSideEncryptionConfigurationNotFoundError":
                return warn(check, "none is set", "`aws s3api put-bucket-encryption`")
            if error.kind is ErrorKind.DENIED:
                return warn(check, "can't be seen: s3:GetEncryptionConfiguration is missing")
            return warn(check, str(error))
        key = how.get("KMSMasterKeyID")
        return ok(check, f"{algorithm}{f' with {key}' if key else ''}")

    def used(self) -> Finding:
        check, key = f"{self._check}: use", f"{names.FOLDER}/doctor-{uuid.uuid4().hex[:12]}"
        steps = (
            ("s3:PutObject", "put_object", {"Key": key, "Body": _BODY}),
            ("s3:ListBucket", "list_objects_v2", {"Prefix": key, "MaxKeys": 1}),
            ("s3:GetObject", "get_object", {"Key": key}),
            ("s3:DeleteObject", "delete_object", {"Key": key}),
        )
        for permission, operation, parameters in steps:
            try:
                self._call(operation, **parameters)
            except AwsError as error:
                if error.kind is not ErrorKind.DENIED:
                    return fail(check, f"{operation} of s3://{self._name}/{key}: {error}",
                                "mend that, then try again")  # fmt: skip
                more = "" if operation == "put_object" else f" ({key} may be left there)"
                todo = "the policy runner-launch has it; a bucket or key policy may take it away"
                return fail(check, f"{permission} is missing: {error}{more}", todo)
        return ok(check, "written, listed, read and removed")
