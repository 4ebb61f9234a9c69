"""Owns the manifest's format: what a job stored, and what was left out and why.

Pure data and JSON; must not know stores. All texts in it are UTF-8, odd bytes escaped.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from runner.core.state_file import Told
from runner.errors import StateError
from runner.model.records import JobName, Name, Rule, decode, matching, read, text, whole
from runner.model.validation_errors import InvalidError

SCHEMA_VERSION = 1

_ENCODER = json.JSONEncoder(ensure_ascii=False)
_SECOND = 1_000_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST = int((datetime.min.replace(tzinfo=UTC) - _EPOCH).total_seconds())
_LAST = int((datetime.max.replace(tzinfo=UTC, microsecond=0) - _EPOCH).total_seconds())


_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?Z", re.ASCII)
_LARGEST = 2**63 - 1
"""Of a file, in bytes (off_t)."""

_octal = matching(r"[0-7]{1,7}", "an octal mode")


def _mode(value: Any) -> int:
    return int(_octal(value), 8)


def _mtime(value: Any) -> int:
    found = _TIME.fullmatch(text(value))
    try:
        whole_seconds = datetime.fromisoformat(found[1]).replace(tzinfo=UTC) if found else None
    except ValueError:
        whole_seconds = None
    if found is None or whole_seconds is None:
        raise InvalidError("is not a time")
    seconds = (whole_seconds - _EPOCH) // timedelta(seconds=1)
    return seconds * _SECOND + int((found[2] or "").ljust(9, "0"))


def _version(value: Any) -> int:
    if (version := whole(1)(value)) != SCHEMA_VERSION:
        raise InvalidError(f"is {version}, and this runner knows {SCHEMA_VERSION}")
    return SCHEMA_VERSION


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One stored file. `name` is `key` below the job's prefix, `source` where it was, and
    `relative` where that was below the working directory; None: elsewhere, or nobody knows.
    `output`: it is no result, but there for the jobs behind.

    `size` in bytes, `mtime_ns` since the epoch, `mode` permission bits, `sha256` of what is stored.
    """

    key: str
    name: str
    size: Annotated[int, Rule(whole(0, _LARGEST))]
    sha256: Annotated[str, Rule(matching(r"[0-9a-f]{64}", "a sha256"))]
    mtime_ns: Annotated[int, Rule(_mtime, "mtime")]
    mode: Annotated[int, Rule(_mode)]
    source: str
    attempt: Told
    relative: str | None = None
    output: bool = False

    def looks_like(self, found: os.stat_result) -> bool:
        """Whether a file is as it was stored, by its size, time and mode."""
        what = (found.st_size, found.st_mtime_ns, found.st_mode & 0o777)
        return what == (self.size, self.mtime_ns, self.mode)


@dataclass(frozen=True, slots=True)
class MissingFile:
    """What was declared and isn't stored. `path`: a pattern as given, or a file or folder.

    `why` says so in words, and names it.
    """

    path: str
    why: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """All that one upload of a job stored. `epoch` grows with every start on another machine.

    `completed`: the attempt did, so its result files are in; else only logs are. `problems`: all
    that is to be told, of which `missing` is what makes the results incomplete.
    """

    run_id: Name
    epoch: Told
    job_id: JobName
    attempt: Told
    completed: bool
    files: tuple[FileEntry, ...]
    problems: tuple[str, ...]
    missing: tuple[MissingFile, ...] = ()
    schema_version: Annotated[int, Rule(_version)] = SCHEMA_VERSION

    def to_bytes(self) -> bytes:
        """The manifest as it is stored; equal manifests are equal bytes."""
        document: dict[str, Any] = {
            "schema_version": self.schema_version,
            "run_id": self.run_id,
            "epoch": self.epoch,
            "job_id": self.job_id,
            "attempt": self.attempt,
            "completed": self.completed,
            "files": [file_to_json(file) for file in self.files],
            "problems": self.problems,
        }
        if self.missing:
            document["missing"] = [{"path": each.path, "why": each.why} for each in self.missing]
        return _ENCODER.encode(document).encode() + b"\n"


def parse_manifest(data: bytes, name: str = "a manifest") -> Manifest:
    """Read a stored manifest; keys that it doesn't know are ignored.

    Raises StateError, which begins with `name`.
    """
    value = decode(data, name)
    if isinstance(value, dict) and "schema_version" not in value:
        raise StateError(f"{name}: schema_version: is required, but missing")
    return read(Manifest, value, name)


def file_to_json(file: FileEntry) -> dict[str, Any]:
    """A file as a manifest has it."""
    told = {
        "key": file.key,
        "name": file.name,
        "size": file.size,
        "sha256": file.sha256,
        "mtime": _format_time(file.mtime_ns),
        "mode": f"{file.mode:04o}",
        "source": file.source,
        "attempt": file.attempt,
        "relative": file.relative,
        "output": file.output or None,
    }
    return {name: value for name, value in told.items() if value is not None}


def _format_time(ns: int) -> str:
    """RFC 3339 with nine digits; a time that it has no year for is the nearest one it has."""
    seconds, rest = divmod(ns, _SECOND)
    seconds = min(max(seconds, _FIRST), _LAST)
    whole = (_EPOCH + timedelta(seconds=seconds)).replace(tzinfo=None).isoformat()
    return f"{whole}.{rest:09d}Z"
