"""An AWS that says no: moto with IAM enforced, and a user whose policy a test can change."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import boto3
from s3_endpoint import Endpoint, env_for


class Guarded:
    """An endpoint of its own that enforces IAM, with a user whose policy can be changed."""

    def __init__(self, env: Mapping[str, str] | None = None, *, mended: str = "") -> None:
        """See Endpoint."""
        self.endpoint = Endpoint(env, mended=mended)
        self.bucket = self.endpoint.bucket()
        self._admin: tuple[str, str] | None = None
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

    def make_role(
        self, name: str, policy: dict[str, Any], service: str = "ecs-tasks.amazonaws.com"
    ) -> str:
        """A role that the service may take, with this policy and no other; its ARN."""
        each = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
        trust = json.dumps({"Version": "2012-10-17", "Statement": [each]})
        made = self._iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust)["Role"]
        document = json.dumps({"Version": "2012-10-17", **policy})
        self._iam.put_role_policy(RoleName=name, PolicyName="p", PolicyDocument=document)
        arn: str = made["Arn"]
        return arn

    def admin(self) -> tuple[str, str]:
        """Keys of somebody who may do everything while IAM is enforced. Enforces it."""
        if self._admin is None:
            self._enforce(False)
            self._iam.create_user(UserName="admin")
            all_of_it = {"Effect": "Allow", "Action": "*", "Resource": "*"}
            document = json.dumps({"Version": "2012-10-17", "Statement": [all_of_it]})
            self._iam.put_user_policy(UserName="admin", PolicyName="p", PolicyDocument=document)
            key = self._iam.create_access_key(UserName="admin")["AccessKey"]
            self._admin = key["AccessKeyId"], key["SecretAccessKey"]
        self._enforce(True)
        return self._admin

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
