"""An AWS that says no: moto with IAM enforced, and a user whose policy a test can change."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
from s3_endpoint import Endpoint, env_for


class Guarded:
    """An endpoint of its own that enforces IAM, with a user whose policy can be changed."""

    def __init__(self, *, mended: str = "") -> None:
        self.endpoint = Endpoint(mended=mended)
        self.bucket = self.endpoint.bucket()
        self._iam = self.client("iam")
        self._iam.create_user(UserName="runner")
        key = self._iam.create_access_key(UserName="runner")["AccessKey"]
        self.env = {
            **env_for(self.endpoint.url),
            "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
        }

    def client(self, service: str) -> Any:
        """A client of somebody whom nothing is allowed while IAM is enforced."""
        return boto3.client(
            service,
            endpoint_url=self.endpoint.url,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )

    def allow(self, policy: dict[str, Any]) -> None:
        """Give the user this policy and no other, and have it enforced from now on."""
        self._enforce(False)
        document = json.dumps(policy)
        self._iam.put_user_policy(UserName="runner", PolicyName="p", PolicyDocument=document)
        self._enforce(True)

    @contextmanager
    def off_guard(self) -> Iterator[None]:
        """A while in which everybody may do everything: to prepare something."""
        self._enforce(False)
        try:
            yield
        finally:
            self._enforce(True)

    def _enforce(self, on: bool) -> None:
        body = b"0" if on else b"inf"
        where, plain = f"{self.endpoint.url}/moto-api/reset-auth", {"Content-Type": "text/plain"}
        asked = urllib.request.Request(where, data=body, headers=plain)
        urllib.request.urlopen(asked, timeout=10).close()
