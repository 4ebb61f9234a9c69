"""The files of an Executor's jobs on a daemon: they come and go by its socket.

Who submits a job need not be the user that it runs as, and then neither sees the other's files.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

from runner.api.command_result import COMPLETED
from runner.api.daemon_connection import DaemonConnection
from runner.api.job_errors import PayloadError
from runner.api.job_files import OUTPUT_KEPT
from runner.api.job_target import CommandOutput, JobEnd
from runner.api.payload import CALL, ERROR, RESULT, PickledPayload, encoded, header_of, read_stream
from runner.api.tasks import PayloadReference
from runner.errors import NotFoundError
from runner.model.call_names import call_name

PIECE = 45_000
"""Bytes of a call in one request: with what is around them they fit into its 64 KiB."""


class DaemonFiles:
    """Of the queue ``queue_id``; ``payloads``: the folder that its calls are in."""

    def __init__(self, connection: DaemonConnection, queue_id: str, payloads: str) -> None:
        self._connection = connection
        self._queue_id = queue_id
        self._payloads = payloads

    def store_call(self, job_id: str, body: bytes, path: Sequence[str]) -> PayloadReference:
        """Keep a call's payload until its job has ended. Raises RunnerError."""
        header = header_of(CALL, body, path)
        content = memoryview(b"".join(encoded(header, body)))
        for offset in range(0, len(content), PIECE):
            piece = content[offset : offset + PIECE]
            self._connection.ask(
                "store_call",
                data=base64.b64encode(piece).decode(),
                queue=self._queue_id,
                job=job_id,
                offset=offset,
                last=offset + len(piece) == len(content),
            )
        where = f"{self._payloads}/{call_name(job_id)}"
        return PayloadReference(where, header.sha256, header.size)

    def result(self, end: JobEnd) -> PickledPayload | None:
        """What the call's last attempt has left; None: nothing. Raises PayloadError, and
        RunnerError."""
        content = io.BytesIO()
        about: dict[str, Any] = {"queue": self._queue_id, "job": end.job_id, "attempt": end.attempt}
        while True:
            piece = self._connection.ask("read_result", offset=content.tell(), **about)
            content.write(base64.b64decode(piece["data"]))
            if piece["kind"] == "none":
                return None
            if content.tell() >= piece["size"] or not piece["data"]:
                break
        if piece["kind"] == "refused":
            raise PayloadError(content.getvalue().decode(errors="replace"))
        content.seek(0)
        return read_stream(content, f"the result of job '{end.job_id}'", (RESULT, ERROR))

    def log(self, job_id: str, stream: str) -> str:
        """All that the newest attempt has printed. Raises NotFoundError, RunnerError."""
        data, _ = self._read_log(job_id, stream, 0)
        return data.decode(errors="replace")

    def output(self, end: JobEnd) -> CommandOutput:
        """The end of what a job's newest attempt has printed, and the files that it has made."""
        (stdout, more_out), (stderr, more_err) = (
            self._tail(end, stream) for stream in ("stdout", "stderr")
        )
        results: tuple[str, ...] = ()
        if end.status == COMPLETED and end.result_paths:
            about: dict[str, Any] = {"queue": self._queue_id, "job": end.job_id}
            results = tuple(self._connection.ask("result_files", **about)["files"])
        return CommandOutput(stdout, stderr, more_out or more_err, results)

    def _tail(self, end: JobEnd, stream: str) -> tuple[str, bool]:
        if not end.attempt:
            return "", False
        try:
            data, size = self._read_log(end.job_id, stream, -OUTPUT_KEPT)
        except NotFoundError:
            return "", False
        return data.decode(errors="replace"), size > OUTPUT_KEPT

    def _read_log(self, job_id: str, stream: str, offset: int) -> tuple[bytes, int]:
        content = io.BytesIO()
        about: dict[str, Any] = {"queue": self._queue_id, "job": job_id, "stream": stream}
        while True:
            piece = self._connection.ask("logs", offset=offset, **about)
            content.write(base64.b64decode(piece["data"]))
            offset = piece["offset"]
            if offset >= piece["size"] or not piece["data"]:
                return content.getvalue(), piece["size"]
