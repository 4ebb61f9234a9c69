"""What this installer has made on the machine, in a file that outlives the installation.

A thing is on record before it is made, and until it is gone: so whatever isn't on record is
somebody else's, whenever an installer was killed. What was recorded and is no longer as it was made
has become somebody else's, too.
"""

from __future__ import annotations

import grp
import json
import os
import pwd
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from enum import Enum
from pathlib import Path

from .files import beside_of, sha256, sync, write
from .places import InstallRefused

FOLDER = Path("/var/lib/queue-runner")
"""Nobody else's; what `dpkg --purge` needs is there, too."""
RECORD = FOLDER / "installed.json"
VERSION = 1


@dataclass(frozen=True, slots=True)
class Thing:
    """One thing of ours. ``kind``: file, link, user, group; a folder goes when it is empty, a tree
    with all that is in it.

    ``marks``: what tells it from another of its name: sha256, target or number; several while it is
    being replaced, none while its number isn't known. ``made``: False for a folder that was there,
    empty: what is in it is ours.
    """

    kind: str
    marks: tuple[str, ...] = ()
    made: bool = True


class Standing(Enum):
    """What is there by the name of a thing."""

    ABSENT = "absent"
    OURS = "ours"
    OTHER = "other"


def named(kind: str, name: str) -> str:
    """The record's key of a user or group; that of all else is its path."""
    return f"{kind} {name}"


def number(key: str) -> int | None:
    """The uid or gid behind a key; None where there is none."""
    kind, _, name = key.partition(" ")
    try:
        return pwd.getpwnam(name).pw_uid if kind == "user" else grp.getgrnam(name).gr_gid
    except KeyError:
        return None


def standing(key: str, thing: Thing) -> Standing:
    """Whether what bears the name is the thing that was recorded."""
    if thing.kind in ("user", "group"):
        if (found := number(key)) is None:
            return Standing.ABSENT
        ours = not thing.marks or str(found) in thing.marks
    elif not os.path.lexists(key):
        return Standing.ABSENT
    elif thing.kind == "link":
        ours = os.path.islink(key) and os.readlink(key) in thing.marks
    elif os.path.islink(key):
        ours = False
    elif thing.kind == "file":
        ours = os.path.isfile(key) and sha256(Path(key).read_bytes()) in thing.marks
    else:
        ours = os.path.isdir(key)
    return Standing.OURS if ours else Standing.OTHER


class InstallRecord:
    """The record of this machine. Each change of it is on the disk when the call returns."""

    def __init__(self, things: Mapping[str, Thing]) -> None:
        self.things = dict(things)

    @classmethod
    def read(cls) -> InstallRecord:
        """Raises InstallRefused for one that can't be read: nobody knows then what is ours."""
        try:
            told = json.loads(RECORD.read_bytes())
            if told["version"] != VERSION:
                raise InstallRefused(f"{RECORD} is of a newer runner: use its install.sh")
            return cls({key: _thing(value) for key, value in told["things"].items()})
        except FileNotFoundError:
            return cls({})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InstallRefused(
                f"{RECORD} is damaged ({error}): restore it; without it nothing here counts as ours"
            ) from None

    def intend(self, things: Mapping[str, Thing]) -> None:
        """These are about to be made, or replaced: old and new are ours until `settle`."""
        before = dict(self.things)
        for key, thing in things.items():
            known = self.things.get(key)
            marks = (*known.marks, *thing.marks) if known and known.kind == thing.kind else None
            kept = tuple(dict.fromkeys(marks if marks is not None else thing.marks))
            self.things[key] = replace(thing, marks=kept, made=known.made if known else thing.made)
        if self.things != before:
            self._store()

    def settle(self, things: Mapping[str, Thing]) -> None:
        """These are made."""
        before = dict(self.things)
        for key, thing in things.items():
            marks = thing.marks
            if thing.kind in ("user", "group") and (found := number(key)) is not None:
                marks = (str(found),)
            self.things[key] = replace(self.things[key], marks=marks)
        if self.things != before:
            self._store()

    def forget(self, keys: Iterable[str]) -> None:
        """These are gone, or somebody else's. With the last one the record goes, too."""
        before = dict(self.things)
        for key in keys:
            self.things.pop(key, None)
        if not self.things:
            RECORD.unlink(missing_ok=True)
            shutil.rmtree(FOLDER, ignore_errors=True)
        elif self.things != before:
            self._store()

    def _store(self) -> None:
        told = {key: asdict(thing) for key, thing in self.things.items()}
        text = json.dumps({"version": VERSION, "things": told}, indent=1) + "\n"
        new = not RECORD.exists()
        try:
            write(RECORD, text.encode())
        except OSError:
            if new:
                beside_of(RECORD).unlink(missing_ok=True)
                shutil.rmtree(FOLDER, ignore_errors=True)
            raise
        if new:
            sync(FOLDER.parent)


def _thing(told: Mapping[str, object]) -> Thing:
    kind, marks, made = told["kind"], told["marks"], told["made"]
    if not (isinstance(kind, str) and isinstance(marks, list) and isinstance(made, bool)):
        raise ValueError(f"{dict(told)!r}")
    return Thing(kind, tuple(map(str, marks)), made)
