"""What is remembered of a queue that was launched on AWS Batch: where it is, which job drives it.

Kept beside the state, in the bucket's index by the queue's id, and on the computer that launched
it. Owns the form of the record and these three places. Nothing of it is trusted when it is read.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from runner.core.run_mode import RESUME
from runner.errors import RecordError, StateError, UsageError
from runner.files import replace_file
from runner.model.records import Count, Name, parse
from runner.results.layout import Layout
from runner.results.store import ResultStore
from runner.results.stores import open_store, parse_s3
from runner.targets.batch.local_names import launches_folder, record_name, records_of
from runner.targets.ec2.names import FOLDER, short_hash

VERSION = 1

INDEX = f"{FOLDER}/batch/"
"""Below it is the index of a bucket."""


@dataclass(frozen=True, slots=True)
class BatchLaunch:
    """``store``: ``s3://bucket/prefix``; ``job``: the newest coordinator's id, None before it is
    known; ``definition``: name:revision of what it was submitted with. ``launched_at`` is RFC 3339,
    ``options``: how the queue's jobs are submitted, for the coordinator. ``again``: how this launch
    mends the queue, once; ``document``: the digest of the corrected document that it goes on with.
    """

    queue_id: Name
    store: str
    region: str
    job_queue: str
    launch: Name
    job: str | None = None
    definition: str | None = None
    launched_at: str = ""
    version: Count = VERSION
    options: Any = None
    again: str = RESUME
    document: str | None = None

    def encoded(self) -> bytes:
        """As it is stored; what isn't known is left out."""
        told = {each.name: getattr(self, each.name) for each in fields(self)}
        known = {name: value for name, value in told.items() if value is not None}
        return json.dumps(known).encode() + b"\n"


def parse_launch(data: bytes, name: str) -> BatchLaunch:
    """The record in ``data``. Raises RecordError, which begins with ``name``."""
    found = parse(BatchLaunch, data, name)
    if found.version != VERSION:
        raise RecordError(f"{name}: has version {found.version}, and this runner knows {VERSION}")
    return found


# -- beside the state --------------------------------------------------------------------------


def stored_launch(store: ResultStore) -> BatchLaunch | None:
    """The newest launch of the queue in a store; None for none. The store is where it was found.

    Raises RecordError for what is none, StoreError.
    """
    where = store.describe()
    data = store.get_bytes(Layout.coordinator_key)
    if data is None:
        return None
    return replace(parse_launch(data, f"{Layout.coordinator_key} in {where}"), store=where)


# -- the index of a bucket ---------------------------------------------------------------------


def index_key(queue_id: str, store: str) -> str:
    """In its bucket: an object for each queue, whose id may be in use with several prefixes."""
    return f"{index_folder(queue_id)}{short_hash(store)}.json"


def index_folder(queue_id: str) -> str:
    """Below it are those of one queue_id."""
    return f"{INDEX}{queue_id}/"


def put_into_index(launch: BatchLaunch) -> None:
    """Let other computers find the queue by its id. Raises StoreError."""
    store = open_store(f"s3://{parse_s3(launch.store)[0]}")
    try:
        store.put_bytes(index_key(launch.queue_id, launch.store), launch.encoded())
    finally:
        store.close()


def indexed_launches(bucket: str, queue_id: str) -> list[BatchLaunch]:
    """What a bucket's index has of a queue_id. Raises StoreError."""
    store = open_store(f"s3://{bucket}")
    try:
        keys = [entry.key for entry in store.list(index_folder(queue_id))]
        found = [_one(store.get_bytes(key), key) for key in keys]
    finally:
        store.close()
    return [each for each in found if each is not None and each.queue_id == queue_id]


def all_indexed(bucket: str) -> list[BatchLaunch]:
    """All that a bucket's index has. Raises StoreError."""
    store = open_store(f"s3://{bucket}")
    try:
        keys = [entry.key for entry in store.list(INDEX)]
        found = [_one(store.get_bytes(key), key) for key in keys]
    finally:
        store.close()
    return [each for each in found if each is not None]


def _one(data: bytes | None, name: str) -> BatchLaunch | None:
    try:
        return None if data is None else parse_launch(data, name)
    except RecordError:
        return None


# -- this computer -----------------------------------------------------------------------------


class BatchLaunches:
    """The folder of what this computer has launched on Batch, a file a queue."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def of_user(cls, environ: Mapping[str, str]) -> BatchLaunches:
        """Below the XDG state folder. Raises UsageError where there is no home folder either."""
        if (folder := launches_folder(environ)) is None:
            told = "there is no home folder to keep the record of launches in"
            raise UsageError(f"{told}: set HOME or XDG_STATE_HOME")
        return cls(folder)

    def records(self, queue_id: str | None = None) -> list[BatchLaunch]:
        """Of one queue_id, else of all; what can't be read is left out."""
        found = []
        for path in records_of(self.folder, queue_id):
            try:
                found.append(_one(path.read_bytes(), str(path)))
            except OSError:
                continue
        return [each for each in found if each and queue_id in (None, each.queue_id)]

    def remember(self, launch: BatchLaunch) -> None:
        """Durably. Raises StateError."""
        path = self.folder / record_name(launch.queue_id, launch.store)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(path, [launch.encoded()], mode=0o600)
        except OSError as error:
            raise StateError(f"{path}: {error.strerror}") from None


def remembered(queue_id: str) -> list[BatchLaunch]:
    """What this computer has launched under an id; nothing where it has no home folder."""
    try:
        return BatchLaunches.of_user(os.environ).records(queue_id)
    except UsageError:
        return []
