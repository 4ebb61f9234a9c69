"""Owns the manifest's format: what a job stored, and what was left out and why.

Pure data and JSON; must not know stores. All texts in it are UTF-8, odd bytes escaped.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from runner.errors import StateError

SCHEMA_VERSION = 1

_ENCODER = json.JSONEncoder(ensure_ascii=False)
_SECOND = 1_000_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST = int((datetime.min.replace(tzinfo=UTC) - _EPOCH).total_seconds())
_LAST = int((datetime.max.replace(tzinfo=UTC, microsecond=0) - _EPOCH).total_seconds())


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One stored file. `name` is `key` below the job's prefix, `source` where it was.

    `size` in bytes, `mtime_ns` since the epoch, `mode` permission bits, `sha256` of what is stored.
    """

    key: str
    name: str
    size: int
    sha256: str
    mtime_ns: int
    mode: int
    source: str
    attempt: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """All that one upload of a job stored. `epoch` grows with every start on another machine.

    `completed`: the attempt did, so its result files are in; else only logs are.
    """

    run_id: str
    epoch: int
    job_id: str
    attempt: int
    completed: bool
    files: tuple[FileEntry, ...]
    problems: tuple[str, ...]

    def to_bytes(self) -> bytes:
        """The manifest as it is stored; equal manifests are equal bytes."""
        document = {
            "schema_version": SCHEMA_VERSION,
            "run_id": self.run_id,
            "epoch": self.epoch,
            "job_id": self.job_id,
            "attempt": self.attempt,
            "completed": self.completed,
            "files": [_file_to_json(file) for file in self.files],
            "problems": self.problems,
        }
        return _ENCODER.encode(document).encode() + b"\n"


def parse_manifest(data: bytes) -> Manifest:
    """Read a stored manifest; keys that it doesn't know are ignored. Raises StateError."""
    try:
        document = json.loads(data)
        if document["schema_version"] != SCHEMA_VERSION:
            raise StateError(f"manifest of an unknown version: {document['schema_version']!r}")
        return Manifest(
            run_id=document["run_id"],
            epoch=document["epoch"],
            job_id=document["job_id"],
            attempt=document["attempt"],
            completed=document["completed"],
            files=tuple(_file_from_json(file) for file in document["files"]),
            problems=tuple(document["problems"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise StateError(f"not a manifest: {error}") from error


def _file_to_json(file: FileEntry) -> dict[str, Any]:
    return {
        "key": file.key,
        "name": file.name,
        "size": file.size,
        "sha256": file.sha256,
        "mtime": _format_time(file.mtime_ns),
        "mode": f"{file.mode:04o}",
        "source": file.source,
        "attempt": file.attempt,
    }


def _file_from_json(file: dict[str, Any]) -> FileEntry:
    return FileEntry(
        key=file["key"],
        name=file["name"],
        size=file["size"],
        sha256=file["sha256"],
        mtime_ns=_parse_time(file["mtime"]),
        mode=int(file["mode"], 8),
        source=file["source"],
        attempt=file["attempt"],
    )


def _format_time(ns: int) -> str:
    """RFC 3339 with nine digits; a time that it has no year for is the nearest one it has."""
    seconds, rest = divmod(ns, _SECOND)
    seconds = min(max(seconds, _FIRST), _LAST)
    whole = (_EPOCH + timedelta(seconds=seconds)).replace(tzinfo=None).isoformat()
    return f"{whole}.{rest:09d}Z"


def _parse_time(text: str) -> int:
    whole, _, rest = text.removesuffix("Z").partition(".")
    seconds = (datetime.fromisoformat(whole).replace(tzinfo=UTC) - _EPOCH) // timedelta(seconds=1)
    return seconds * _SECOND + int(rest.ljust(9, "0"))
