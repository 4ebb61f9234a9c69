"""Records of fingerprints: the one that a completed run has left, and the one of a run under way.

Owns their formats, and how they are kept. Both are compressed JSON: a job may read 100,000 files.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated

from runner.errors import RunnerError, StateError
from runner.files import replace_file
from runner.model.fingerprint import Fingerprint
from runner.model.records import Count, Name, Rule, parse, whole
from runner.results.fingerprint.walk import Signature
from runner.results.layout import Layout
from runner.results.store import MAX_RECORD, ResultStore

VERSION = 1

_Large = Annotated[int, Rule(whole(-(2**63), 2**64))]
"""A time in ns, an inode or a size."""


@dataclass(frozen=True, slots=True)
class CompletedRun:
    """What the last completed run of a job depended on, and what it made.

    ``run_id`` and ``attempt`` say whose the results in the store are, as a manifest does;
    ``origin``: which attempt has made them, also when later runs have taken them over.
    ``parts``, ``files``: as of Fingerprint; ``results``: what each result file held, by name.
    """

    run_id: Name
    attempt: Count
    origin: str
    parts: Mapping[str, str]
    files: Mapping[str, str] = field(default_factory=dict)
    results: Mapping[str, str] = field(default_factory=dict)
    version: Annotated[int, Rule(whole(VERSION, VERSION))] = VERSION

    @property
    def fingerprint(self) -> Fingerprint:
        """What it depended on."""
        return Fingerprint(self.parts, self.files)


@dataclass(frozen=True, slots=True)
class RunUnderWay:
    """What a job depended on when it was about to start.

    ``signatures`` of the inputs by name, ``racy``: those that may be written to without a change of
    their times. ``changed``: what was found to have changed under it; then it can't be gone by.
    Once its command has ended, ``attempt`` is the attempt's number, and ``results`` the signatures
    of what it has made.
    """

    run_id: Name
    parts: Mapping[str, str]
    files: Mapping[str, str] = field(default_factory=dict)
    signatures: Mapping[str, tuple[_Large, ...]] = field(default_factory=dict)
    racy: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    attempt: Count | None = None
    results: Mapping[str, tuple[_Large, ...]] = field(default_factory=dict)
    version: Annotated[int, Rule(whole(VERSION, VERSION))] = VERSION

    def spoiled(self, why: list[str]) -> RunUnderWay:
        """The same, with more that has changed under it."""
        return replace(self, changed=(*self.changed, *why)[:20])

    def signature(self, name: str) -> Signature | None:
        """Of an input, when the job was about to start; None for what has none."""
        found = self.signatures.get(name)
        return None if found is None or len(found) != 5 else Signature(*found)


def encode(record: CompletedRun | RunUnderWay) -> bytes:
    """A record as it is kept."""
    text = json.dumps(asdict(record), ensure_ascii=True, separators=(",", ":"))
    # With a time of its own the same record would be other bytes each time.
    return gzip.compress(text.encode(), compresslevel=1, mtime=0)


def decode_completed(data: bytes, name: str) -> CompletedRun:
    """The inverse of ``encode``. Raises StateError, which begins with ``name``."""
    return parse(CompletedRun, _unpack(data, name), name)


def _unpack(data: bytes, name: str) -> bytes:
    try:
        unpacking = zlib.decompressobj(wbits=31)
        text = unpacking.decompress(data, MAX_RECORD)
    except zlib.error as error:
        raise StateError(f"{name}: is damaged: {error}") from None
    if not unpacking.eof:
        raise StateError(f"{name}: is cut short, or too large")
    return text


def read_completed(stores: Sequence[ResultStore], job_id: str) -> CompletedRun | None:
    """The last completed run of a job, as the first store tells that knows of the job at all; None
    where that is none that can be gone by. Raises StoreError."""
    key = Layout().fingerprint_key(job_id)
    for store in stores:
        if (data := store.get_bytes(key)) is not None:
            try:
                return decode_completed(data, key)
            except RunnerError:
                return None
    return None


def forget_completed(store: ResultStore, job_id: str) -> None:
    """Nobody goes by an earlier run of it any more, wherever that is known. Raises StoreError."""
    store.put_bytes(Layout().fingerprint_key(job_id), b"", durable=True)


def read_under_way(path: Path) -> RunUnderWay | None:
    """What was noted of a run under way; None where that is nothing that can be gone by."""
    try:
        return parse(RunUnderWay, _unpack(path.read_bytes(), path.name), path.name)
    except (OSError, RunnerError):
        return None


def write_under_way(path: Path, record: RunUnderWay) -> None:
    """Note it durably. Raises OSError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    replace_file(path, [encode(record)], mode=0o600)
