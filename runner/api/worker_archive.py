"""What is sent with the calls of functions to containers: the worker, and folders of code. Pure but
for reading files.

The same files give the same bytes, so that each is stored once, under its sha256.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cloudpickle

import runner

_TIME = (1980, 1, 1, 0, 0, 0)

WORKER_FILES = (
    "__init__.py",
    "errors.py",
    "files.py",
    "model/__init__.py",
    "model/call_names.py",
    "api/__init__.py",
    "api/chunk_call.py",
    "api/job_errors.py",
    "api/payload.py",
    "api/unpicklable.py",
    "api/worker.py",
)
"""All of runner that a call imports in its process."""


@dataclass(frozen=True, slots=True)
class CodeArchive:
    """A zip file's bytes; ``name`` holds their sha256."""

    name: str
    data: bytes


@cache
def worker_archive() -> CodeArchive:
    """The worker, to be run by ``python3 worker.zip MODULE CALL``."""
    home = Path(runner.__file__).parent
    files = [("__main__.py", (home / "api/container_worker.py").read_bytes())]
    files += [(f"runner/{name}", (home / name).read_bytes()) for name in WORKER_FILES]
    pickler = Path(cloudpickle.__file__).parent
    files += [(f"cloudpickle/{each.name}", each.read_bytes()) for each in pickler.glob("*.py")]
    return _packed("worker", files)


def code_archive(folder: Path) -> CodeArchive:
    """A folder of modules. Raises OSError."""
    return _packed("code", _files_in(folder))


def _files_in(folder: Path) -> Iterator[tuple[str, bytes]]:
    for each in folder.rglob("*"):
        if each.is_file():
            yield each.relative_to(folder).as_posix(), each.read_bytes()


def _packed(kind: str, files: Iterable[tuple[str, bytes]]) -> CodeArchive:
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in sorted(files):
            archive.writestr(zipfile.ZipInfo(name, _TIME), data, zipfile.ZIP_DEFLATED)
    data = raw.getvalue()
    return CodeArchive(f"{kind}-{hashlib.sha256(data).hexdigest()[:16]}.zip", data)
