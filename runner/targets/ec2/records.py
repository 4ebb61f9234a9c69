"""What is remembered of a launch, for who looks for a queue: on this computer, or in its bucket.

Reads what `launch` has written in either place, and writes it for a queue that was submitted to a
running machine. Fields that it doesn't know it ignores.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from runner.targets.ec2 import names

VERSION = 1


@dataclass(frozen=True, slots=True)
class Record:
    """Where a queue went. ``store``: ``s3://bucket/prefix``; ``launched_at``: RFC 3339."""

    queue_id: str
    store: str
    region: str
    instance_id: str | None = None
    launch: str | None = None
    launched_at: str | None = None

    @property
    def at(self) -> float:
        """``launched_at`` as seconds since the epoch; 0 if it says nothing."""
        try:
            return datetime.fromisoformat(self.launched_at or "").timestamp()
        except ValueError:
            return 0.0

    def encode(self) -> bytes:
        """As it is stored."""
        told = {name: value for name, value in asdict(self).items() if value is not None}
        return json.dumps({"version": VERSION, **told}).encode() + b"\n"


def parse(data: bytes) -> Record | None:
    """The record in a file or an object; None for what is none, or of a later version."""
    try:
        told = json.loads(data)
        if told["version"] != VERSION:
            return None
        return _checked(told)
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _checked(told: Mapping[str, Any]) -> Record:
    def text(name: str, *, needed: bool = False) -> Any:
        value = told.get(name)
        if not isinstance(value, str) and (needed or value is not None):
            raise ValueError(name)
        return value

    return Record(
        queue_id=text("queue_id", needed=True),
        store=text("store", needed=True),
        region=text("region", needed=True),
        instance_id=text("instance_id"),
        launch=text("launch"),
        launched_at=text("launched_at"),
    )


def folder(environ: Mapping[str, str]) -> Path:
    """Where this computer's are: below the XDG state folder, whoever its user is."""
    state = environ.get("XDG_STATE_HOME", "")
    base = Path(state) if state.startswith("/") else Path(os.path.expanduser("~/.local/state"))
    return base / "runner" / "launches"


def of_queue(place: Path, queue_id: str) -> Record | None:
    """This computer's record of a queue."""
    try:
        return parse((place / f"{queue_id}.json").read_bytes())
    except (OSError, ValueError):
        return None


def of_instance(place: Path, instance_id: str) -> Record | None:
    """The newest record of an instance: it may have had several queues."""
    try:
        found = [of_queue(place, path.stem) for path in place.glob("*.json")]
    except OSError:
        return None
    same = [record for record in found if record and record.instance_id == instance_id]
    return max(same, key=lambda record: record.at, default=None)


def remember(place: Path, record: Record) -> None:
    """Keep it on this computer. Raises OSError."""
    place.mkdir(parents=True, exist_ok=True)
    temporary = place / f".{record.queue_id}.{os.getpid()}"
    temporary.write_bytes(record.encode())
    os.replace(temporary, place / f"{record.queue_id}.json")


def publish(bucket: str, record: Record) -> None:
    """Keep it in the bucket, for who looks from elsewhere. Raises StoreError."""
    from runner.results.stores import open_store

    store = open_store(f"s3://{bucket}")
    try:
        store.put_bytes(names.index_key(record.queue_id), record.encode())
    finally:
        store.close()


def rfc3339(wall: float | None) -> str | None:
    """Seconds since the epoch as a launch's record has them."""
    if wall is None:
        return None
    return datetime.fromtimestamp(round(wall), UTC).isoformat().removesuffix("+00:00") + "Z"
