"""Python objects as files: a header that is checked, then what cloudpickle made of them.

A file is a line of JSON and the pickled bytes. Nothing is unpickled before the header has been read
and its versions and checksum have been compared: bytes of another Python crash the interpreter
(cloudpickle's README: the same version of Python is needed; a function of 3.11 is a segmentation
fault in 3.13). The checksum finds damage, not evil: whoever may write the file decides what runs
where it is read. Both ends use this module; the worker starts with it, so it imports little.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import platform
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import cloudpickle

from runner.api.job_errors import PayloadError
from runner.files import replace_file

MAGIC = "runner-payload"
VERSION = 1

CALL = "call"
RESULT = "result"
ERROR = "error"
KINDS = (CALL, RESULT, ERROR)

_LONGEST_HEADER = 1024 * 1024


@dataclass(frozen=True, slots=True)
class PayloadHeader:
    """The first line of a payload file.

    ``python`` is the cache tag of the interpreter, which tells its kind and version;
    ``sha256`` and ``size`` (bytes) are of what follows. ``path``: folders that a call's modules are
    imported from, before the worker's own.
    """

    kind: str
    python: str
    python_version: str
    cloudpickle: str
    sha256: str
    size: int
    path: tuple[str, ...] = ()
    version: int = VERSION


@dataclass(frozen=True, slots=True)
class PickledPayload:
    """A header that was checked, and bytes that fit it."""

    header: PayloadHeader
    body: memoryview | bytes

    def load(self) -> Any:
        """The objects. Runs code of whoever wrote them. Raises what their constructors do."""
        return pickle.loads(self.body)


def pickled(value: object) -> bytes:
    """The bytes of an object: what `__main__` defines travels by value. Raises as cloudpickle."""
    with io.BytesIO() as file:
        cloudpickle.Pickler(file, protocol=pickle.HIGHEST_PROTOCOL).dump(value)
        return file.getvalue()


def header_of(kind: str, body: bytes, path: Sequence[str] = ()) -> PayloadHeader:
    """The header for bytes that were made in this process."""
    return PayloadHeader(
        kind,
        _tag(),
        platform.python_version(),
        cloudpickle.__version__,
        hashlib.sha256(body).hexdigest(),
        len(body),
        tuple(path),
    )


def encoded(header: PayloadHeader, body: bytes) -> Iterable[bytes]:
    """The pieces of the file."""
    line = json.dumps({"magic": MAGIC, **asdict(header)}, separators=(",", ":"))
    return (line.encode("utf-8", "surrogateescape"), b"\n", body)


def write_payload(
    where: Path, kind: str, body: bytes, path: Sequence[str] = (), *, durable: bool = True
) -> PayloadHeader:
    """Write the file, whole or not at all. Raises OSError."""
    header = header_of(kind, body, path)
    replace_file(where, encoded(header, body), mode=0o600, durable=durable)
    return header


def read_payload(where: Path, kinds: Sequence[str], sha256: str | None = None) -> PickledPayload:
    """The file's content, checked and not unpickled. Raises PayloadError, OSError.

    ``sha256``: what the sender said that it is, if the reader knows.
    """
    with open(where, "rb") as file:
        return read_stream(file, str(where), kinds, sha256)


def read_stream(
    file: BinaryIO, name: str, kinds: Sequence[str], sha256: str | None = None
) -> PickledPayload:
    """The same of an open file, or of bytes from a store, called ``name``."""
    header = parse_header(file.readline(_LONGEST_HEADER), name)
    if header.kind not in kinds:
        raise PayloadError(f"{name}: holds a {header.kind}, not a {' or '.join(kinds)}")
    check_versions(header, name)
    body = file.read(header.size + 1)
    if len(body) != header.size:
        more = "more" if len(body) > header.size else f"{len(body):,}"
        raise PayloadError(f"{name}: is damaged: {more} bytes, {header.size:,} were written")
    found = hashlib.sha256(body).hexdigest()
    if found != header.sha256 or (sha256 is not None and found != sha256):
        raise PayloadError(f"{name}: is damaged: its sha256 is not the one that was sent")
    return PickledPayload(header, body)


def parse_header(line: bytes, name: str) -> PayloadHeader:
    """The header in a file's first line. Raises PayloadError."""
    try:
        found = json.loads(line.decode("utf-8", "surrogateescape"))
        if type(found) is not dict or found.pop("magic", None) != MAGIC:
            raise PayloadError(f"{name}: is no payload of runner's")
        if found.get("version") != VERSION:
            told = f"version {found.get('version')!r}, this runner reads version {VERSION}"
            raise PayloadError(f"{name}: is a payload of {told}")
        if found.keys() != _TYPES.keys():
            raise ValueError(f"fields {sorted(found.keys() ^ _TYPES.keys())}")
        for key, kind in _TYPES.items():
            if type(found[key]) is not kind:
                raise ValueError(f"{key} is no {kind.__name__}")
        if not all(type(each) is str for each in found["path"]) or found["size"] < 0:
            raise ValueError("path or size is wrong")
    except (ValueError, RecursionError) as error:
        raise PayloadError(f"{name}: its first line is no header of runner's: {error}") from None
    return PayloadHeader(**{**found, "path": tuple(found["path"])})


_TYPES: dict[str, type] = {
    "kind": str,
    "python": str,
    "python_version": str,
    "cloudpickle": str,
    "sha256": str,
    "size": int,
    "path": list,
    "version": int,
}


def check_versions(header: PayloadHeader, name: str) -> None:
    """Raise PayloadError, naming both versions, for bytes that this interpreter can't read."""
    if header.python != _tag():
        theirs = f"{header.python_version} ({header.python})"
        ours = f"{platform.python_version()} ({_tag()})"
        raise PayloadError(
            f"{name}: was written by Python {theirs} and can't be read by Python {ours}: the same "
            "version of Python is needed on both sides"
        )
    if header.cloudpickle != cloudpickle.__version__:
        raise PayloadError(
            f"{name}: was written by cloudpickle {header.cloudpickle} and can't be read by "
            f"cloudpickle {cloudpickle.__version__}: the same version is needed on both sides"
        )


def _tag() -> str:
    return sys.implementation.cache_tag or sys.implementation.name


def remove(where: Path) -> None:
    """Remove a payload that has done its work, if it is there."""
    try:
        os.unlink(where)
    except OSError:
        # It costs room, and nothing else: the queue's folder goes with all of them.
        pass


def round_trip(value: object, dump: Callable[[object], bytes] = pickled) -> bytes:
    """The bytes of an object that can be read again. Raises what packing or unpacking does."""
    body = dump(value)
    pickle.loads(body)
    return body
