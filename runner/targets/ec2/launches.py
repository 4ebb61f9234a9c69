"""What is remembered of a launch, so that the next command finds it: on the laptop, in the bucket.

Owns the record and its two places. It is written before EC2 is asked for a machine: a launch that
was cut off anywhere is gone on with, not begun again. Who reads it ignores what he doesn't know.
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

from runner.errors import LockedError, StateError

VERSION = 1


@dataclass(frozen=True, slots=True)
class Asked:
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
    ``open``: the user has not been told of its end yet.
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
    asked: Asked | None = None

    def having(self, **changes: Any) -> Launch:
        return replace(self, **changes)

    @property
    def public(self) -> dict[str, Any]:
        """What anybody may know who looks for the queue: no request, it is large."""
        from runner.targets.ec2.request import rfc3339

        told = {
            "version": VERSION,
            "queue_id": self.queue_id,
            "store": self.store,
            "instance_id": self.instance_id,
            "region": self.region,
            "launch": self.launch,
            "launched_at": rfc3339(self.launched_at),
            "expires": rfc3339(self.expires),
        }
        return {name: value for name, value in told.items() if value is not None}


class Launches:
    """The folder of a laptop's launches, a file a queue."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, queue_id: str) -> Path:
        return self.folder / f"{queue_id}.json"

    @contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Nobody else launches this from this laptop meanwhile. Raises LockedError, StateError.

        ``name``: the queue_id, or the digest of a document without one.
        """
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

    def read(self, queue_id: str) -> Launch | None:
        """The newest launch of a queue from here; None if there was none, or it can't be read:
        EC2's tags and the bucket know of it too."""
        try:
            return _parse(json.loads(self.path(queue_id).read_bytes()))
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None

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
        found = [self.read(path.stem) for path in sorted(self.folder.glob("*.json"))]
        return [each for each in found if each is not None and each.open]

    def write(self, launch: Launch) -> None:
        """Durably: after it EC2 may be asked. Raises StateError."""
        path = self.path(launch.queue_id)
        temporary = path.with_name(f".{path.name}.new")
        try:
            # The request tells where things are in the account: it is its owner's.
            with open(
                os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w"
            ) as file:
                json.dump(_plain(launch), file)
                file.write("\n")
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise StateError(f"{path}: {error.strerror}") from None


def _plain(launch: Launch) -> dict[str, Any]:
    plain = {
        **launch.public,
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


def _parse(plain: dict[str, Any]) -> Launch:
    if plain["version"] != VERSION:
        raise ValueError("of another version")
    asked = None
    if told := plain.get("asked"):
        request = {**told["request"], "UserData": base64.b64decode(told["request"]["UserData"])}
        asked = Asked(int(told["number"]), float(told["at"]), request)
    return Launch(
        queue_id=plain["queue_id"],
        store=plain["store"],
        region=plain["region"],
        launch=plain["launch"],
        launched_at=float(plain["launched"]),
        expires=float(plain["ends"]),
        instance_id=plain.get("instance_id"),
        digest=plain.get("digest", ""),
        open=bool(plain.get("open")),
        asked=asked,
    )
