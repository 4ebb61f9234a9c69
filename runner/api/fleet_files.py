"""The files of an Executor's tasks in the store of its fleet job: calls, results, logs.

A call is beside the runs of its task, a result in the run that made it.

    _items/<job id>/call                        what is called
    _items/<job id>/<run>/kept/result.<n>       what its n-th attempt gave
    _items/<job id>/<run>/jobs/<job id>/…       logs, and files that a command made
    _code/<sha256>.zip                          modules that calls import from
"""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from runner.api.fleet_worker import result_name
from runner.api.job_errors import PayloadError
from runner.api.job_files import OUTPUT_KEPT
from runner.api.job_target import CommandOutput
from runner.api.payload import (
    CALL,
    ERROR,
    RESULT,
    PickledPayload,
    encoded,
    header_of,
    read_stream,
)
from runner.api.tasks import PayloadReference
from runner.errors import NotFoundError
from runner.fleet.task_run import KEPT_KEY
from runner.fleet.task_store import item_folder
from runner.model.call_names import REFUSED_SUFFIX
from runner.model.settings import Settings
from runner.results.layout import Layout
from runner.results.manifest import parse_manifest
from runner.results.store import ResultStore
from runner.service.result_stores import StoreRequest, opened

_LAYOUT = Layout()


class FleetFiles:
    """For any thread. ``where``: the store of the job's tasks. All raise StoreError, OSError."""

    def __init__(self, where: str, settings: Settings) -> None:
        self.where = where.rstrip("/")
        store = opened(StoreRequest(self.where), settings)
        assert store is not None
        self._store: ResultStore = store

    def prepare(self) -> list[str]:
        """Try whether it can be written to. Raises UsageError."""
        return self._store.prepare()

    def store_call(self, job_id: str, body: bytes, path: Sequence[str]) -> PayloadReference:
        """Keep a call's payload."""
        header = header_of(CALL, body, path)
        key = f"{item_folder(job_id)}/call"
        self._store.put_bytes(key, b"".join(encoded(header, body)), durable=True)
        return PayloadReference(f"{self.where}/{key}", header.sha256, header.size)

    def forget_call(self, job_id: str) -> None:
        """It is not needed any more."""
        self._store.delete(f"{item_folder(job_id)}/call")

    def store_code(self, folders: Sequence[str]) -> str:
        """An archive of all files of these folders; its address."""
        with io.BytesIO() as file:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
                for folder in folders:
                    for path in sorted(Path(folder).rglob("*")):
                        if path.is_file():
                            archive.write(path, os.fspath(path.relative_to(folder)))
            data = file.getvalue()
        key = f"_code/{hashlib.sha256(data).hexdigest()[:32]}.zip"
        self._store.put_bytes(key, data, durable=True)
        return f"{self.where}/{key}"

    def result(self, job_id: str, run: int, attempt: int) -> PickledPayload | None:
        """What a call gave; None: nothing. Raises PayloadError."""
        key = f"{item_folder(job_id)}/{run}/{KEPT_KEY}/{result_name(attempt)}"
        with tempfile.TemporaryFile() as file:  # of any size, where get_bytes has a limit
            if self._store.get_file(key, file.fileno()):
                file.seek(0)
                return read_stream(file, f"{self.where}/{key}", (RESULT, ERROR))
        if (refused := self._store.get_bytes(f"{key}{REFUSED_SUFFIX}")) is not None:
            raise PayloadError(refused.decode(errors="replace"))
        return None

    def log(self, job_id: str, run: int, stream: str) -> str:
        """All that the newest attempt of a run has printed. Raises NotFoundError."""
        found = self._log(job_id, run, stream)
        if found is None:
            raise NotFoundError(
                f"there is no log of job '{job_id}' in {self.where}: it is stored when the job ends"
            )
        return found.decode(errors="replace")

    def _log(self, job_id: str, run: int, stream: str) -> bytes | None:
        key = _LAYOUT.stdout_key(job_id) if stream == "stdout" else _LAYOUT.stderr_key(job_id)
        return self._store.get_bytes(f"{item_folder(job_id)}/{run}/{key}")

    def output(self, job_id: str, run: int, *, results: bool) -> CommandOutput:
        """The end of what a command printed; ``results``: also the files that it made."""
        out, err = (self._log(job_id, run, name) or b"" for name in ("stdout", "stderr"))
        return CommandOutput(
            out[-OUTPUT_KEPT:].decode(errors="replace"),
            err[-OUTPUT_KEPT:].decode(errors="replace"),
            max(len(out), len(err)) > OUTPUT_KEPT,
            self._results(job_id, run) if results else (),
        )

    def _results(self, job_id: str, run: int) -> tuple[str, ...]:
        """The addresses of the files that a run's command made."""
        base = f"{item_folder(job_id)}/{run}"
        raw = self._store.get_bytes(f"{base}/{_LAYOUT.manifest_key(job_id)}")
        if raw is None:
            return ()
        manifest = parse_manifest(raw, f"{base}: its manifest")
        if not manifest.completed:
            return ()
        logs = (_LAYOUT.stdout_key(job_id), _LAYOUT.stderr_key(job_id))
        keys = sorted(each.key for each in manifest.files if each.key not in logs)
        return tuple(f"{self.where}/{base}/{key}" for key in keys)

    def close(self) -> None:
        """Give back what it holds."""
        self._store.close()
