"""The table ``[batch]`` of the settings: where jobs on AWS Batch run, and with what.

Must not know what the settings are used for. Each key ``x`` of the table is the variable
RUNNER_BATCH_X.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from runner.model.messages import did_you_mean, kind, quoted, step

TABLE = "batch"


@dataclass(frozen=True, slots=True)
class BatchSettings:
    """``bucket``: a bucket, or ``s3://bucket/prefix``, for staging and results. ``image``: of jobs
    that name none; ``agent_image``: of the containers that stage files. ``job_role``: whose rights
    the jobs' own calls to AWS have, ``coordinator_role``: the same of a coordinator's (None: the
    jobs'); ``execution_role``: with which images, secrets and logs are
    reached. ``shared``: a file system that every job mounts, ``efs:fs-…``. ``events``: the URL of a
    queue of SQS that EventBridge tells what becomes of jobs. None: not given.
    """

    region: str | None = None
    bucket: str | None = None
    job_queue: str | None = None
    image: str | None = None
    agent_image: str | None = None
    job_role: str | None = None
    execution_role: str | None = None
    coordinator_role: str | None = None
    bundle: str | None = None
    shared: str | None = None
    events: str | None = None


def read_table(value: Any, source: str, errors: list[str]) -> dict[str, str]:
    """The keys of the file's table with their values. What is wrong is added to ``errors``."""
    if not isinstance(value, dict):
        errors.append(f"{source}: must be a table, not {kind(value)}")
        return {}
    given = {}
    for key, item in value.items():
        place = f"{source}{step(key)}"
        if key not in READERS:
            errors.append(f"{place}: unknown key{did_you_mean(key, READERS)}")
            continue
        try:
            given[key] = READERS[key](item)
        except ValueError as error:
            errors.append(f"{place}: {error}")
    return given


def _text(pattern: str, what: str) -> Callable[[Any], str]:
    known = re.compile(pattern)

    def read(value: Any) -> str:
        if not isinstance(value, str):
            raise ValueError(f"must be {what}, not {kind(value)}")
        if not known.fullmatch(value):
            raise ValueError(f"{quoted(value)} is not {what}")
        return value

    return read


def _bucket(value: Any) -> str:
    from runner.model.fields import check_bucket
    from runner.model.validation_errors import InvalidError

    if not isinstance(value, str):
        raise ValueError(f"must be a bucket or s3://bucket/prefix, not {kind(value)}")
    name, _, prefix = value.removeprefix("s3://").partition("/")
    try:
        check_bucket(name)
    except InvalidError as error:
        raise ValueError(f"the bucket {error}") from None
    if not re.fullmatch(r"[!-~]*", prefix):
        raise ValueError(f"{quoted(prefix)} is not a prefix")
    return value


_ROLE = _text(r"arn:aws[a-z-]*:iam::[0-9]{12}:role/\S+", "the ARN of a role")
_IMAGE = _text(r"[!-~]{1,1024}", "the name of an image, such as python:3.12")

READERS: dict[str, Callable[[Any], str]] = {
    "region": _text(r"[a-z]{2,}(-[a-z]+)+-[0-9]{1,2}", "a region such as eu-central-1"),
    "bucket": _bucket,
    "job_queue": _text(
        r"arn:aws[a-z-]*:batch:\S+:job-queue/[A-Za-z0-9_-]{1,128}|[A-Za-z0-9][A-Za-z0-9_-]{0,127}",
        "the name or ARN of a job queue",
    ),
    "image": _IMAGE,
    "agent_image": _IMAGE,
    "job_role": _ROLE,
    "execution_role": _ROLE,
    "coordinator_role": _ROLE,
    "bundle": _text(r"[!-~]{1,1024}", "`image`, a bundle's path or s3://bucket/key"),
    "events": _text(
        r"https?://[!-~]{1,1024}",
        "the URL of a queue, such as https://sqs.eu-central-1.amazonaws.com/123456789012/NAME",
    ),
    "shared": _text(
        r"efs:fs-[0-9a-f]{8,40}(:/[^:\s]+){0,10}",
        "a file system such as efs:fs-0123456789abcdef0, with paths such as :/data behind it",
    ),
}
"""How the value of each key is read. Each raises ValueError with words for the user."""
