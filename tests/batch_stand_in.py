"""What stands in for an attempt's containers where only the driver is tested: one process that
keeps to the records, and is as quick as a process can be.

Stage and main do nothing; the agent does all: claim, COMMAND, end, files, what is stored. It is run
as `python3 batch_stand_in.py`, with runner's own modules beside it.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


_KEYS = (
    "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request, "
    "SignedHeaders=host, Signature=unchecked"
)


class PlainStore:
    """What of a ResultStore an upload of a few small files needs, over plain HTTP: to import
    boto3 would take longer than all the rest."""

    parallel = 1
    key_bytes = 1024
    local_folder = None

    def __init__(self, where: str) -> None:
        self._at = f"{os.environ['AWS_ENDPOINT_URL']}/{where}"

    def describe(self) -> str:
        return self._at

    def _call(self, method: str, key: str, data: bytes | None = None, **headers: str) -> bytes:
        url = f"{self._at}/{urllib.parse.quote(key)}"
        headers |= {"Authorization": _KEYS, "Content-Type": "application/octet-stream"}
        request = urllib.request.Request(url, data, headers, method=method)
        with urllib.request.urlopen(request) as answer:
            return bytes(answer.read())

    def get_bytes(self, key: str) -> bytes | None:
        try:
            return self._call("GET", key)
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise

    def put_bytes(self, key: str, data: bytes, *, durable: bool = False) -> None:
        self._call("PUT", key, data)

    def put_once(self, key: str, data: bytes) -> bool:
        try:
            self._call("PUT", key, data, **{"If-None-Match": "*"})
        except urllib.error.HTTPError as error:
            if error.code == 412:
                return False
            raise
        return True

    def put_file(self, key: str, source: Any, *, durable: bool = False, link: bool = False) -> Any:
        from runner.results.store import Stored

        path = Path(source.path)
        data, found = path.read_bytes(), path.stat()
        self.put_bytes(key, data)
        mode = found.st_mode & 0o777
        return Stored(len(data), hashlib.sha256(data).hexdigest(), found.st_mtime_ns, mode)

    def list(self, prefix: str) -> Iterator[Any]:
        return iter(())  # nothing is removed

    def delete(self, key: str) -> None: ...
    def flush(self, prefix: str) -> None: ...
    def clean_up(self, prefix: str) -> None: ...
    def discard_unfinished(self, prefix: str) -> None: ...


def commands(_: object) -> object:
    """See BatchPlace: what the containers run."""
    from runner.batch.definitions import Commands

    script = f"exec {sys.executable} {Path(__file__)}"
    return Commands(
        stage=["true"], main=["true"], agent=["sh", "-c", script], in_image=["sh", "-c", script]
    )


def main() -> int:
    sys.path.insert(0, str(ROOT))
    from runner.batch.records import (
        BatchClaim,
        BatchEnd,
        BatchStored,
        EndKind,
        Writer,
        parse_submission,
        to_bytes,
    )
    from runner.model.elements import element_name
    from runner.results.layout import Layout
    from runner.results.upload.job_upload import JobUpload, upload_job

    where, _, name = os.environ["RUNNER_SUBMISSION"].rpartition("/submissions/")
    store, layout = PlainStore(where.removeprefix("s3://")), Layout()
    told = parse_submission(store.get_bytes(f"submissions/{name}") or b"")
    entry = told.entry(int(os.environ.get("AWS_BATCH_JOB_ARRAY_INDEX", "0")))
    name = told.job_id if entry.index is None else element_name(told.job_id, entry.index)
    key = (name, entry.attempt, entry.token)
    claim = BatchClaim(
        Writer.CONTAINER,
        entry.token,
        time.time(),
        uuid.uuid4().hex,
        os.environ["AWS_BATCH_JOB_ID"],
        int(os.environ["AWS_BATCH_JOB_ATTEMPT"]),
    )
    if not store.put_once(layout.claim_key(*key), to_bytes(claim)):
        return 0
    folder = Path(tempfile.mkdtemp(prefix="stand-in-"))
    work = folder / (told.working_directory or "work")
    began = time.time()
    if told.working_directory and told.working_directory.startswith("/") and not work.is_dir():
        end = BatchEnd(
            Writer.CONTAINER,
            entry.token,
            EndKind.NOT_RUNNABLE,
            began,
            message=f"working directory {work} does not exist",
        )
        (folder / "stdout").touch()
        (folder / "stderr").touch()
    else:
        work.mkdir(parents=True, exist_ok=True)
        end = _run(told, entry, work, folder)
    store.put_once(layout.end_key(*key), to_bytes(end))  # or the driver's reason stands
    outcome = upload_job(
        store,
        layout,
        JobUpload(
            name,
            told.run_id,
            told.epoch,
            entry.attempt,
            completed=end.kind is EndKind.EXIT and end.code == 0,
            patterns=tuple(each.path for each in told.result_paths),
            optional=frozenset(each.path for each in told.result_paths if each.optional),
            working_directory=str(work),
            stdout=folder / "stdout",
            stderr=folder / "stderr",
        ),
    )
    stored = BatchStored(
        entry.token, end, outcome.ok, outcome.told, bool(outcome.missing), outcome.stale
    )
    store.put_bytes(layout.stored_key(*key), to_bytes(stored))
    return end.code if end.kind is EndKind.EXIT and end.code is not None else 1


def _go_with_container() -> None:
    """What is in a container is killed with it, in whichever session it is."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


def _run(told: object, entry: object, work: Path, folder: Path) -> object:
    from runner.batch.records import BatchEnd, EndKind, Writer

    ours = {
        "JOB_ID": told.job_id,
        "JOB_ATTEMPT": str(entry.attempt),
        "QUEUE_ID": told.queue_id,
        "RUNNER_WORK_DIR": str(work),
        **({} if entry.index is None else {"RUNNER_ARRAY_INDEX": str(entry.index)}),
    }
    began = time.time()
    with open(folder / "stdout", "wb") as out, open(folder / "stderr", "wb") as err:
        process = subprocess.Popen(
            ["/bin/bash", "-c", told.command],
            cwd=work,
            env={"PATH": os.environ["PATH"], **told.env, **ours},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
            preexec_fn=_go_with_container,
        )
    asked = False

    def term(*_: object) -> None:
        nonlocal asked
        asked = True
        os.killpg(process.pid, signal.SIGTERM)

    signal.signal(signal.SIGTERM, term)
    timed_out = False
    try:
        code = process.wait(told.timeout)
    except subprocess.TimeoutExpired:
        timed_out = True
        os.killpg(process.pid, signal.SIGTERM)
        try:
            code = process.wait(told.term_grace)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            code = process.wait()
    kind = EndKind.EXIT if code >= 0 else EndKind.SIGNAL
    if timed_out:
        kind = EndKind.TIMED_OUT
    elif asked:
        kind = EndKind.STOPPED
    return BatchEnd(
        Writer.CONTAINER,
        entry.token,
        kind,
        time.time(),
        code=code if code >= 0 else None,
        signal=None if code >= 0 else signal.Signals(-code).name,
        started_at=began,
        duration=time.time() - began,
    )


if __name__ == "__main__":
    sys.exit(main())
