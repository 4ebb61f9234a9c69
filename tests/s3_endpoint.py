"""A real S3 endpoint for tests: moto's server in a process of its own, on loopback.

It answers like S3 for what we use, over HTTP, to every process that has its variables. What it
doesn't do (throttling, broken connections, expired keys) is the fault proxy's business.
"""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Mapping
from typing import Any

from boto_models import read_once

_SERVER = r"""
import sys
from moto.moto_server.utilities import RegexConverter
from moto.server import ThreadedMotoServer

class AnyKey(RegexConverter):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.regex = self.regex.replace(".+", r"[\s\S]+")

sys.modules["moto.moto_server.werkzeug_app"].RegexConverter = AnyKey
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""
"""It ends when its stdin is closed: with whoever started it, however that ends.

moto's routes take no newline in a key, which S3 does.
"""


class Endpoint:
    """Start it, use ``env`` for every process that is to talk to it, and close it."""

    def __init__(self, env: Mapping[str, str] | None = None, *, mended: str = "") -> None:
        """``mended``: what the server's process runs before, where moto is to be put right."""
        self._client: Any = None
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", f"{mended}\n{_SERVER}"],
            env={**os.environ, **(env or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())
        self.url = f"http://127.0.0.1:{self.port}"

    @property
    def env(self) -> dict[str, str]:
        """What makes boto3 use it, and nothing of the machine's own settings."""
        return env_for(self.url)

    def bucket(self) -> str:
        """A new bucket."""
        name = f"test-{uuid.uuid4().hex[:12]}"
        self.client().create_bucket(Bucket=name)
        return name

    def client(self) -> Any:
        """A client that goes straight to it, whatever the environment says."""
        import boto3

        if self._client is None:
            read_once()
            self._client = boto3.client(
                "s3",
                endpoint_url=self.url,
                region_name="us-east-1",
                aws_access_key_id="test",
                aws_secret_access_key="test",
            )
        return self._client

    def keys(self, bucket: str, prefix: str = "") -> dict[str, int]:
        """Every key below a prefix, with its size."""
        pages = self.client().get_paginator("list_objects_v2")
        return {
            item["Key"]: item["Size"]
            for page in pages.paginate(Bucket=bucket, Prefix=prefix)
            for item in page.get("Contents", ())
        }

    def empty(self, bucket: str) -> None:
        """Delete all that a bucket holds."""
        for key in self.keys(bucket):
            self.client().delete_object(Bucket=bucket, Key=key)

    def read(self, bucket: str, key: str) -> bytes:
        """What a key holds."""
        data: bytes = self.client().get_object(Bucket=bucket, Key=key)["Body"].read()
        return data

    def open_uploads(self, bucket: str) -> list[str]:
        """Keys of multipart uploads that nobody completed or aborted."""
        answer = self.client().list_multipart_uploads(Bucket=bucket)
        return [upload["Key"] for upload in answer.get("Uploads", ())]

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        if self._client is not None:
            self._client.close()
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


def env_for(url: str) -> dict[str, str]:
    """The variables of a process that talks to the endpoint at ``url``."""
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "NO_PROXY": "127.0.0.1",
    }
