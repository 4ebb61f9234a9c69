"""What anybody may know of a launch who looks for its queue: where it went, and as what.

Owns the form of the record, which a laptop keeps and the index holds (see index.py). A reader
ignores the fields that it doesn't know.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from runner.core.state_file import moment
from runner.errors import RecordError
from runner.model.records import Count, Name, read
from runner.model.validation_errors import InvalidError
from runner.targets.ec2.queue_ref import QueueRef
from runner.timestamps import rfc3339_seconds

VERSION = 1

_OPTIONS_KEY = "recipe"
"""The key of ``options_sha256`` in stored records, the same since the first of them."""


@dataclass(frozen=True, slots=True)
class LaunchRecord:
    """``store``: ``s3://bucket/prefix``, "" for none; times in seconds since the epoch.

    ``options_sha256``: of what says how it was launched, see launch_options.py.
    ``document``: that of the document by which it was put onto a machine of another launch, see
    submitted_document.py.
    """

    queue_id: str
    store: str
    region: str
    instance_id: str | None = None
    launch: str | None = None
    launched_at: float | None = None
    expires: float | None = None
    options_sha256: str | None = None
    document: str | None = None

    @property
    def ref(self) -> QueueRef:
        """Which queue it is about."""
        return QueueRef(self.queue_id, self.store)

    @property
    def plain(self) -> dict[str, Any]:
        """For JSON; what isn't known is left out."""
        told = {
            "version": VERSION,
            "queue_id": self.queue_id,
            "store": self.store,
            "region": self.region,
            "instance_id": self.instance_id,
            "launch": self.launch,
            "launched_at": None if self.launched_at is None else rfc3339_seconds(self.launched_at),
            "expires": None if self.expires is None else rfc3339_seconds(self.expires),
            _OPTIONS_KEY: self.options_sha256,
            "document": self.document,
        }
        return {name: value for name, value in told.items() if value is not None}


@dataclass(frozen=True, slots=True)
class _Stored:
    version: Count
    queue_id: Name
    store: str
    region: str
    instance_id: str | None = None
    launch: str | None = None
    launched_at: Any = None
    expires: Any = None
    options_sha256: str | None = None
    document: str | None = None


def parse(plain: object) -> LaunchRecord | None:
    """The record in a JSON value; None for what is none, or of a later version."""
    try:
        told = read(_Stored, _renamed(plain), "a launch's record")
    except RecordError:
        return None
    if told.version != VERSION:
        return None
    return LaunchRecord(
        queue_id=told.queue_id,
        store=told.store,
        region=told.region,
        instance_id=told.instance_id,
        launch=told.launch,
        launched_at=_moment(told.launched_at),
        expires=_moment(told.expires),
        options_sha256=told.options_sha256,
        document=told.document,
    )


def _renamed(plain: object) -> object:
    """The value with the names that the records have here."""
    if not isinstance(plain, Mapping):
        return plain
    return {"options_sha256" if key == _OPTIONS_KEY else key: held for key, held in plain.items()}


def _moment(told: Any) -> float | None:
    """Without one it is a record all the same."""
    try:
        return moment(told)
    except InvalidError:
        return None
