"""What this laptop remembers of its launches, so that the next command finds them.

Owns the folder, a file a queue. It is written before EC2 is asked for a machine: a launch that was
cut off anywhere is gone on with, not begun again.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from runner.errors import LockedError, RecordError, StateError, UsageError
from runner.files import replace_file, sync_folder
from runner.model.records import Count, WallTime, decode, read
from runner.store.paths import home_folder
from runner.targets.ec2.launch_record import LaunchRecord, parse
from runner.targets.ec2.names import short_hash
from runner.targets.ec2.queue_ref import QueueRef, is_queue_id


@dataclass(frozen=True, slots=True)
class SentRequest:
    """A request that EC2 was sent, or is about to be: kept whole, for it may be sent again.

    ``at``: when it was sent first, seconds since the epoch. ``number``: of the launch's requests.
    """

    number: int
    at: float
    request: Mapping[str, Any]

    @property
    def token(self) -> str:
        return str(self.request["ClientToken"])


@dataclass(frozen=True, slots=True)
class Launch:
    """One launch. ``instance_id`` is absent until it is known; times in seconds since the epoch.

    ``digest``: of what was asked for, document and flags: the same command again has the same.
    ``open``: the user has not been told of its end yet. ``options_sha256``: see LaunchRecord.
    """

    queue_id: str
    store: str
    region: str
    launch: str
    launched_at: float
    expires: float
    instance_id: str | None = None
    digest: str = ""
    open: bool = True
    asked: SentRequest | None = None
    options_sha256: str | None = None

    def having(self, **changes: Any) -> Launch:
        return replace(self, **changes)

    @property
    def ref(self) -> QueueRef:
        """Which queue it is about."""
        return QueueRef(self.queue_id, self.store)

    @property
    def record(self) -> LaunchRecord:
        """What anybody may know who looks for the queue: no request, it is large."""
        return LaunchRecord(
            queue_id=self.queue_id,
            store=self.store,
            region=self.region,
            instance_id=self.instance_id,
            launch=self.launch,
            launched_at=self.launched_at,
            expires=self.expires,
            options_sha256=self.options_sha256,
        )


class Launches:
    """The folder of a laptop's launches, and of queues that it gave to running machines."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def of_user(cls, environ: Mapping[str, str]) -> Launches:
        """Below the XDG state folder, whoever this computer's user is.

        Raises UsageError where there is neither that nor a home folder.
        """
        state, home = environ.get("XDG_STATE_HOME", ""), home_folder(environ)
        if state.startswith("/"):
            return cls(Path(state) / "runner" / "launches")
        if home is None:
            told = "there is no home folder to keep the record of launches in"
            raise UsageError(f"{told}: set HOME or XDG_STATE_HOME")
        return cls(home / ".local/state/runner/launches")

    def path(self, queue: QueueRef) -> Path:
        """A file for each queue: the same id may be in use with several stores."""
        return self.folder / f"{queue.queue_id}@{short_hash(queue.store)}.json"

    @contextmanager
    def locked(self, what: QueueRef | str) -> Iterator[None]:
        """Nobody else launches this from this laptop meanwhile. Raises LockedError, StateError.

        ``what``: the queue, or the digest of a document without a queue_id.
        """
        name = self.path(what).stem if isinstance(what, QueueRef) else what
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = os.open(
                self.folder / f".{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
            )
        except OSError as error:
            raise StateError(f"{error.filename}: {error.strerror}") from None
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise LockedError("another launch of the same is under way here") from None
            yield
        finally:
            os.close(lock)

    def read(self, queue: QueueRef) -> Launch | None:
        """The newest launch of a queue from here; None if there was none, or it can't be read:
        EC2's tags and the bucket know of it too."""
        found = [_launch(_load(path)) for path in self._files(queue.queue_id)]
        same = [each for each in found if each is not None and each.ref == queue]
        return max(same, key=lambda each: each.launched_at, default=None)

    def records(self, queue_id: str) -> list[LaunchRecord]:
        """Where queues of this id went from here, the newest of each store."""
        newest: dict[str, LaunchRecord] = {}
        for path in self._files(queue_id):
            record = parse(_load(path))
            if record is None or record.queue_id != queue_id:
                continue
            other = newest.get(record.store)
            if other is None or (other.launched_at or 0.0) <= (record.launched_at or 0.0):
                newest[record.store] = record
        return list(newest.values())

    def records_of(self, instance_id: str) -> list[LaunchRecord]:
        """Of the queues that an instance has had, the newest last."""
        found = [parse(_load(path)) for path in self._files()]
        same = [each for each in found if each and each.instance_id == instance_id]
        return sorted(same, key=lambda each: each.launched_at or 0.0)

    def _files(self, queue_id: str | None = None) -> list[Path]:
        """Of one queue_id, else of all; an older runner named them by the queue_id alone."""
        if queue_id is None:
            return sorted(self.folder.glob("*.json"))
        if not is_queue_id(queue_id):
            return []
        return [self.folder / f"{queue_id}.json", *sorted(self.folder.glob(f"{queue_id}@*.json"))]

    def unfinished(self, digest: str) -> Launch | None:
        """The newest launch of the same command whose end nobody was told."""
        same = [each for each in self._open() if each.digest == digest]
        return max(same, key=lambda each: each.launched_at, default=None)

    def cut_off(self, digest: str) -> list[Launch]:
        """Launches of other commands that EC2 was asked for, in the last day, and whose end nobody
        was told."""
        since = time.time() - 86_400
        return [
            each
            for each in self._open()
            if each.digest != digest and each.asked is not None and each.asked.at > since
        ]

    def _open(self) -> list[Launch]:
        found = [_launch(_load(path)) for path in self._files()]
        return [each for each in found if each is not None and each.open]

    def write(self, launch: Launch) -> None:
        """Durably: after it EC2 may be asked. Raises StateError."""
        self._write(launch.ref, _plain(launch))

    def remember(self, record: LaunchRecord) -> None:
        """A queue that went to a machine without a launch of its own. Raises StateError."""
        self._write(record.ref, record.plain)

    def _write(self, queue: QueueRef, plain: Mapping[str, Any]) -> None:
        path = self.path(queue)
        older = self.folder / f"{queue.queue_id}.json"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # The request tells where things are in the account: it is its owner's.
            replace_file(path, [json.dumps(plain).encode(), b"\n"], mode=0o600)
            if (record := parse(_load(older))) is not None and record.ref == queue:
                older.unlink(missing_ok=True)
                sync_folder(path.parent)
        except OSError as error:
            raise StateError(f"{path}: {error.strerror}") from None


def _load(path: Path) -> Any:
    try:
        return decode(path.read_bytes(), str(path))
    except (OSError, RecordError):
        return None


def _launch(plain: Any) -> Launch | None:
    try:
        return parse_launch(plain)
    except (ValueError, RecordError):
        return None


def _plain(launch: Launch) -> dict[str, Any]:
    plain = {
        **launch.record.plain,
        "launched": launch.launched_at,
        "ends": launch.expires,
        "digest": launch.digest,
        "open": launch.open,
    }
    if launch.asked is not None:
        request = dict(launch.asked.request)
        request["UserData"] = base64.b64encode(request["UserData"]).decode()
        plain["asked"] = {"number": launch.asked.number, "at": launch.asked.at, "request": request}
    return plain


@dataclass(frozen=True, slots=True)
class _StoredRequest:
    number: Count
    at: WallTime
    request: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _StoredLaunch:
    """What a launch's file has besides its record."""

    launched: WallTime
    ends: WallTime
    digest: str = ""
    open: bool = False
    asked: _StoredRequest | None = None


def parse_launch(plain: Any) -> Launch:
    """The launch in a JSON value. Raises ValueError or RecordError for what is none."""
    record = parse(plain)
    if record is None or record.launch is None:
        raise ValueError("no launch")
    told = read(_StoredLaunch, plain, "a launch")
    asked = None
    if told.asked is not None:
        sent = told.asked.request
        if not (isinstance(sent.get("ClientToken"), str) and isinstance(sent.get("UserData"), str)):
            raise ValueError("no request")
        request = {**sent, "UserData": base64.b64decode(sent["UserData"], validate=True)}
        asked = SentRequest(told.asked.number, told.asked.at, request)
    return Launch(
        queue_id=record.queue_id,
        store=record.store,
        region=record.region,
        launch=record.launch,
        launched_at=told.launched,
        expires=told.ends,
        instance_id=record.instance_id,
        digest=told.digest,
        open=told.open,
        asked=asked,
        options_sha256=record.options_sha256,
    )
