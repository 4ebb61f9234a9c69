"""The files of an executor's jobs on this machine: payloads of calls, logs of commands."""

from __future__ import annotations

import os
from collections.abc import Sequence
from glob import glob
from pathlib import Path

from runner.api.command_result import COMPLETED
from runner.api.job_errors import PayloadError
from runner.api.job_target import CommandOutput, JobEnd
from runner.api.payload import (
    CALL,
    ERROR,
    RESULT,
    PickledPayload,
    read_payload,
    remove,
    write_payload,
)
from runner.api.tasks import PayloadReference
from runner.errors import NotFoundError
from runner.model.call_names import REFUSED_SUFFIX, call_name, result_name
from runner.store.paths import LogPaths

OUTPUT_KEPT = 1024 * 1024
"""Bytes of a command's output that are in its result; the logs have all of it."""


class JobFiles:
    """``payloads``: the folder of calls and results; ``work_dir``: the folder that jobs run in.
    ``durable``: a power cut loses nothing, and results stay: other sessions may attach to them."""

    def __init__(self, payloads: Path, logs: LogPaths, work_dir: str, *, durable: bool) -> None:
        self._payloads = payloads
        self._logs = logs
        self._work_dir = work_dir
        self._durable = durable

    def store_call(self, job_id: str, body: bytes, path: Sequence[str]) -> PayloadReference:
        """Keep a call's payload until its job has ended. Raises OSError."""
        where = self._payloads / call_name(job_id)
        header = write_payload(where, CALL, body, path, durable=self._durable)
        return PayloadReference(str(where), header.sha256, header.size)

    def result(self, end: JobEnd) -> PickledPayload | None:
        """What the call's last attempt has left; None: nothing. Raises PayloadError, OSError."""
        where = self._result(end)
        try:
            return read_payload(where, (RESULT, ERROR))
        except FileNotFoundError:
            pass
        try:
            message = Path(f"{where}{REFUSED_SUFFIX}").read_text(errors="replace")
        except FileNotFoundError:
            return None
        raise PayloadError(message)

    def forget(self, end: JobEnd) -> None:
        """The job is over, and its result was taken."""
        remove(self._payloads / call_name(end.job_id))
        if not self._durable:
            remove(self._result(end))

    def _result(self, end: JobEnd) -> Path:
        return self._payloads / result_name(end.job_id, end.attempt)

    def log(self, job_id: str, stream: str) -> str:
        """All that the newest attempt has printed. Raises NotFoundError, OSError."""
        try:
            with open(self._logs.newest(job_id, stream), "rb") as file:
                return file.read().decode(errors="replace")
        except FileNotFoundError:
            raise NotFoundError(f"there is no log of job '{job_id}'") from None

    def output(self, end: JobEnd) -> CommandOutput:
        """The end of what a job's newest attempt has printed."""
        stdout, more_out = self._tail(end.job_id, "stdout")
        stderr, more_err = self._tail(end.job_id, "stderr")
        results = self.results_of(end) if end.status == COMPLETED else ()
        return CommandOutput(stdout, stderr, more_out or more_err, results)

    def results_of(self, end: JobEnd) -> tuple[str, ...]:
        """Where the files are that a command's `result_paths` matched, sorted."""
        return self.matching(end.result_paths)

    def matching(self, patterns: Sequence[str]) -> tuple[str, ...]:
        """The files that match a command's `result_paths`, sorted; relative ones are meant from the
        folder that the jobs run in. Dotfiles match like all others."""
        found = {
            os.path.join(self._work_dir, path)
            for pattern in patterns
            for path in glob(pattern, root_dir=self._work_dir, recursive=True, include_hidden=True)
        }
        return tuple(sorted(path for path in found if os.path.isfile(path)))

    def _tail(self, job_id: str, stream: str) -> tuple[str, bool]:
        try:
            with open(self._logs.newest(job_id, stream), "rb") as file:
                size = os.fstat(file.fileno()).st_size
                file.seek(max(0, size - OUTPUT_KEPT))
                return file.read().decode(errors="replace"), size > OUTPUT_KEPT
        except OSError:
            return "", False
