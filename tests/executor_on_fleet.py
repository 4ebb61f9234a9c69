"""Fleets for an Executor: an embedded one, and one of PostgreSQL, a rude SQS and S3."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import postgres_server
import pytest
from executor_targets import ExecutorTarget
from postgres_server import PostgresServer
from s3_endpoint import Endpoint
from sqs_server import RUDE, SqsServer

from runner.fleet.database import open_database


def durable(where: Path) -> dict[str, Any]:
    """A fleet job of the folder's own."""
    return {"job": f"job-{hashlib.sha256(bytes(where)).hexdigest()[:12]}"}


def target(
    kind: str,
    folder: Path,
    environment: dict[str, str],
    absent: dict[str, str] | None = None,
    **more: Any,
) -> ExecutorTarget:
    """Workers are started by each Executor, and end with it."""
    return ExecutorTarget(
        kind=kind,
        arguments=lambda workers: {
            "target": "fleet",
            "job": f"job-{uuid.uuid4().hex[:12]}",
            "workers": workers,
            **more,
        },
        durable=durable,
        environment={"RUNNER_STATE_DIR": str(folder / "state"), **environment},
        patience=180,
        absent=absent or {},
    )


@contextmanager
def fleet_target(folder: Path) -> Iterator[ExecutorTarget]:
    """SQLite, and a folder of results."""
    yield target("fleet", folder, {}, database=str(folder / "fleet"))


@contextmanager
def fleet_sqs_target(folder: Path) -> Iterator[ExecutorTarget]:
    """PostgreSQL, and an SQS that does all that SQS may do; calls and results in S3."""
    if missing := postgres_server.what_is_missing():
        (pytest.fail if os.environ.get("CI") else pytest.skip)(missing)
    with ExitStack() as stack:
        server = stack.enter_context(closing(PostgresServer()))
        queues = stack.enter_context(closing(SqsServer(RUDE)))
        endpoint = stack.enter_context(closing(Endpoint()))
        url = server.database()
        with closing(open_database(url)) as database:
            database.migrate()
        yield target(
            "fleet-sqs",
            folder,
            {**endpoint.env, **queues.env},
            {
                "test_the_interpreters_end_cancels": "SQS has no order: the second may run first",
                "test_jobs_run_in_the_order_of_submission": "SQS has no order",
            },
            database=url,
            region="us-east-1",
            results=f"s3://{endpoint.bucket()}/executors",
        )
