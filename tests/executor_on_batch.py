"""The target `batch` of an Executor, for tests: a Batch server, an S3 endpoint, processes as
containers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from batch_account import BatchAccount
from executor_targets import ExecutorTarget
from on_batch import ROLE, account_with
from s3_endpoint import Endpoint

ABSENT: dict[str, str] = {}
"""Tests that don't apply, with the reason."""


def options_of(bucket: str, **more: Any) -> dict[str, Any]:
    """The keywords of an Executor there. ``bundle``: the images have runner."""
    return {
        "target": "batch",
        "job_queue": "queue",
        "image": "local/deb",
        "region": "us-east-1",
        "bucket": bucket,
        "job_role": ROLE,
        "bundle": "image",
        "every": 0.1,
        **more,
    }


def environment_of(endpoint: Endpoint, account: BatchAccount) -> dict[str, str]:
    """What a process needs to reach both, and nothing of this machine's settings."""
    return {**endpoint.env, **account.env, "AWS_DEFAULT_REGION": "us-east-1"}


@contextmanager
def batch_target(folder: Path) -> Iterator[ExecutorTarget]:
    """AWS Batch, whose containers are processes of this machine."""
    endpoint = Endpoint()
    account = account_with(endpoint, second_s=1.0)
    bucket = endpoint.bucket()
    try:
        yield ExecutorTarget(
            kind="batch",
            arguments=lambda workers: options_of(bucket, max_workers=workers, staging="in-image"),
            durable=lambda where: {"state_dir": str(where)},
            environment=environment_of(endpoint, account),
            patience=240,
            absent=ABSENT,
            works_here=False,
        )
    finally:
        account.close()
        endpoint.close()
