"""The process of one function call in a fleet: ``python -m runner.api.fleet_worker``.

Fetches the call from the store that RUNNER_CALL names, runs it as ``worker`` does, and leaves what
it gave in the store of the task's run, which RUNNER_TASK_RESULTS names. What is there of another
run counts for nothing.
"""

from __future__ import annotations

import io
import os
import sys
import tempfile
import zipfile
from dataclasses import replace
from pathlib import Path

from runner.api.job_errors import PayloadError
from runner.api.payload import CALL as CALL_KIND
from runner.api.payload import PickledPayload, read_payload, read_stream
from runner.api.worker import refuse, run_call
from runner.errors import RunnerError
from runner.model.call_names import REFUSED_SUFFIX

CALL = "RUNNER_CALL"
"""The variable with a call's sha256 and address."""

CODE = "RUNNER_CALL_CODE"
"""The variable with the address of an archive (zip) of modules that it imports from."""

RESULTS = "RUNNER_TASK_RESULTS"

_S3 = "s3://"


def result_key(attempt: int | str) -> str:
    """Where an attempt's result is in the store of its run."""
    return f"call/result.{attempt}"


def main() -> int:
    """Run the call; the exit status of the process: see ``worker``."""
    sha256, _, where = os.environ[CALL].partition(" ")
    results = os.environ[RESULTS]
    key = result_key(os.environ.get("JOB_ATTEMPT", "1"))
    if results.startswith(_S3):
        with tempfile.TemporaryDirectory(prefix="runner-call-") as folder:
            target = Path(folder) / "result"
            status = _run(where, sha256, target)
            _store(target, results, key)
            return status
    target = Path(results) / key
    target.parent.mkdir(parents=True, exist_ok=True)
    return _run(where, sha256, target)


def _run(where: str, sha256: str, target: Path) -> int:
    try:
        payload = _call(where, sha256)
    except (RunnerError, OSError) as error:
        return refuse(target, str(error))
    return run_call(payload, target)


def _call(where: str, sha256: str) -> PickledPayload:
    """The call. Raises PayloadError, StoreError, OSError."""
    if where.startswith(_S3):
        payload = read_stream(io.BytesIO(_fetched(where)), where, (CALL_KIND,), sha256)
    else:
        payload = read_payload(Path(where), (CALL_KIND,), sha256)
    if (code := os.environ.get(CODE)) is None:
        return payload
    path = (_unpacked(code), *payload.header.path)
    return replace(payload, header=replace(payload.header, path=path))


def _fetched(where: str) -> bytes:
    from runner.results.stores import open_store

    folder, _, name = where.rpartition("/")
    store = open_store(folder)
    try:
        found = store.get_bytes(name)
    finally:
        store.close()
    if found is None:
        raise PayloadError(f"{where}: is not there any more")
    return found


def _unpacked(where: str) -> str:
    """The folder with the modules of an archive: in the one that the call is made in, and goes."""
    raw = _fetched(where) if where.startswith(_S3) else Path(where).read_bytes()
    folder = os.path.abspath(".runner-code")
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            archive.extractall(folder)
    except zipfile.BadZipFile as error:
        raise PayloadError(f"{where}: {error}") from None
    return folder


def _store(target: Path, results: str, key: str) -> None:
    from runner.results.stores import open_store

    store = open_store(results)
    try:
        for path, name in (
            (target, key),
            (Path(f"{target}{REFUSED_SUFFIX}"), f"{key}{REFUSED_SUFFIX}"),
        ):
            if path.exists():
                store.put_bytes(name, path.read_bytes())
    finally:
        store.close()


if __name__ == "__main__":
    sys.exit(main())
