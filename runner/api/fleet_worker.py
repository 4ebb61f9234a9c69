"""The process of one function call in a fleet: ``python -m runner.api.fleet_worker``.

Reads the call that RUNNER_CALL names, runs it as ``worker`` does, and leaves what it gave in the
folder RUNNER_TASK_KEEP, which is stored with the task's run. It knows no store: what is in S3 was
fetched before, so that it needs no credentials and starts in the time of a Python.
"""

from __future__ import annotations

import os
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

from runner.api.job_errors import PayloadError
from runner.api.payload import CALL as CALL_KIND
from runner.api.payload import PickledPayload, read_payload
from runner.api.worker import refuse, run_call

CALL = "RUNNER_CALL"
"""The variable with a call's sha256 and address."""

CODE = "RUNNER_CALL_CODE"
"""The variable with the address of an archive (zip) of modules that it imports from."""

FETCHED_CALL = ".runner-call/call"
FETCHED_CODE = ".runner-call/code.zip"
"""Where they are in the call's folder if their addresses are in S3."""

_UNPACKED = ".runner-call/code"


def result_name(attempt: int | str) -> str:
    """The file of what an attempt gave."""
    return f"result.{attempt}"


def main() -> int:
    """Run the call; the exit status of the process: see ``worker``."""
    sha256, _, where = os.environ[CALL].partition(" ")
    target = Path(os.environ["RUNNER_TASK_KEEP"]) / result_name(os.environ["JOB_ATTEMPT"])
    try:
        payload = _call(_local(where, FETCHED_CALL), sha256)
    except (PayloadError, OSError) as error:
        return refuse(target, str(error))
    return run_call(payload, target)


def _local(where: str, fetched: str) -> Path:
    return Path(fetched if where.startswith("s3://") else where)


def _call(where: Path, sha256: str) -> PickledPayload:
    """The call, its modules unpacked. Raises PayloadError, OSError."""
    payload = read_payload(where, (CALL_KIND,), sha256)
    if (code := os.environ.get(CODE)) is None:
        return payload
    archive = _local(code, FETCHED_CODE)
    try:
        with zipfile.ZipFile(archive) as opened:
            opened.extractall(_UNPACKED)
    except zipfile.BadZipFile as error:
        raise PayloadError(f"{archive}: {error}") from None
    path = (os.path.abspath(_UNPACKED), *payload.header.path)
    return replace(payload, header=replace(payload.header, path=path))


if __name__ == "__main__":
    sys.exit(main())
