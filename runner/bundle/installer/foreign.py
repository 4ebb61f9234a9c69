"""What stands in the way, found before anything is written: others' things, no room, no rights.

Owns which things an installation makes, and which it takes as they are.
"""

from __future__ import annotations

import os
import tomllib
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from .accounts import default_job_user, may_submit
from .files import nearest, sha256
from .places import (
    BUNDLE,
    CURRENT,
    GROUPS,
    HOME,
    HOME_RULE,
    JOB_HOME,
    JOB_USER,
    LOGS,
    OTHER_UNITS,
    RUN,
    SERVED,
    SETTINGS,
    STATE,
    UNITS,
    VERSIONS,
    InstallRefused,
    links,
    unit_files,
)
from .record import FOLDER, InstallRecord, Standing, Thing, named, number, standing

ADOPTED = "--adopt uses it as it is, and never removes it"
AWAY = "move it away"
SPARE = 16 << 20
"""Bytes beyond what is unpacked: units, the record, the first lines of a log."""


def wanted(name: str) -> dict[str, Thing]:
    """All that an installation of this version consists of, in the order of its making."""
    things = {str(HOME): Thing("folder"), str(VERSIONS): Thing("folder")}
    things[str(VERSIONS / name)] = Thing("tree")
    for group in GROUPS:
        things[named("group", group)] = Thing("group")
    things[named("user", JOB_USER)] = Thing("user")
    for tree in (STATE, LOGS, RUN, JOB_HOME, SETTINGS.parent):
        things[str(tree)] = Thing("tree")
    for place, source in unit_files().items():
        if not place.parent.exists():
            things[str(place.parent)] = Thing("folder")
        things[str(place)] = Thing("file", (sha256(source.read_bytes()),))
    things[str(CURRENT)] = Thing("link", (f"versions/{name}",))
    for link, target in links().items():
        if not link.parent.exists():
            things[str(link.parent)] = Thing("folder")
        things[str(link)] = Thing("link", (target,))
    things[str(SETTINGS)] = Thing("file", (sha256(first_settings()),))
    things[str(SERVED)] = Thing("file", (sha256(name.encode()),))
    return things


def first_settings() -> bytes:
    """What runner.toml begins with, where there is none."""
    about = "# All settings: docs/reference/settings.md in the repository of runner."
    return f'{about}\njob_user = "{default_job_user()}"\n'.encode()


def claim(record: InstallRecord, things: Mapping[str, Thing], *, adopt: bool) -> dict[str, Thing]:
    """The things that are, or will be, ours. Raises InstallRefused, which names all that isn't."""
    owned, problems = {}, []
    for key, thing in things.items():
        why, remedy = _problem(record, key, thing)
        if not why:
            there = thing.kind in ("tree", "folder") and os.path.isdir(key)
            known = record.things.get(key)
            owned[key] = Thing(thing.kind, thing.marks, known.made if known else not there)
        elif not (remedy == ADOPTED and adopt):
            problems.append(f"{key} {why}: {remedy}")
    if named("user", JOB_USER) not in owned:
        # Another's user has another's home.
        problems = [line for line in problems if not line.startswith(f"{JOB_HOME} ")]
        for path in (JOB_HOME, HOME_RULE):
            owned.pop(str(path), None)
    if SETTINGS.exists() and str(SETTINGS) not in record.things:
        owned.pop(str(SETTINGS), None)
    if SETTINGS.parent.exists() and str(SETTINGS.parent) not in record.things:
        owned.pop(str(SETTINGS.parent), None)
    problems += _shadowed_units()
    if problems:
        raise InstallRefused(
            "\n  ".join(["nothing was changed, for this is not the installer's:", *problems])
        )
    return owned


def _problem(record: InstallRecord, key: str, thing: Thing) -> tuple[str, str]:
    """Why a thing can't be ours, and what to do; "" if it can."""
    known, adoptable = record.things.get(key), thing.kind in ("user", "group")
    adoptable |= key in (str(HOME), str(STATE), str(LOGS), str(RUN))
    there = standing(key, known or thing)
    if there is Standing.ABSENT or (known and there is Standing.OURS):
        return "", ""
    if thing.kind == "file" and (known or key == str(SETTINGS)):
        # Changed by whoever runs this machine: `installing` sees to it.
        return "", ""
    if thing.kind in ("user", "group"):
        return f"was there (number {number(key)})", ADOPTED
    if os.path.islink(key):
        target = os.readlink(key)
        is_folder = adoptable and os.path.isdir(key)
        return f"is a link to {target}", ADOPTED if is_folder else AWAY
    if thing.kind in ("tree", "folder") and os.path.isdir(key):
        if key == str(SETTINGS.parent) or (not os.listdir(key) and key != str(JOB_HOME)):
            return "", ""
        return "is a folder with files in it", ADOPTED if adoptable else AWAY
    return "is there", AWAY


def _shadowed_units() -> Iterable[str]:
    names = [place.name for place in unit_files() if place.parent == UNITS]
    for name in names:
        for folder in OTHER_UNITS:
            if (folder / name).exists() and folder.resolve() != UNITS:
                yield f"{folder / name} is another program's unit: remove that program"
                break


def see_that_it_fits(things: Mapping[str, Thing], name: str) -> None:
    """Raises InstallRefused where something can't be written, or what is written couldn't run."""
    paths = [Path(key) for key, thing in things.items() if key.startswith("/")]
    for folder in dict.fromkeys(nearest(path.parent) for path in (*paths, FOLDER)):
        if not os.access(folder, os.W_OK):
            raise InstallRefused(
                f"nothing can be written to {folder}: is its file system read-only?"
            )
    there = os.statvfs(nearest(HOME))
    if there.f_flag & os.ST_NOEXEC:
        raise InstallRefused(
            f"{nearest(HOME)} is on a file system mounted noexec: nothing in {HOME} could run"
        )
    need = SPARE + (0 if (VERSIONS / name).exists() else _unpacked_size())
    if (free := there.f_bavail * there.f_frsize) < need:
        raise InstallRefused(
            f"{HOME} needs {need >> 20} MiB, and {nearest(HOME)} has {free >> 20} free: make room"
        )


def _unpacked_size() -> int:
    """Bytes, in whole blocks; as much again for the bytecode of our own modules."""
    size = 0
    for wheel in (BUNDLE / "wheels").iterdir():
        with zipfile.ZipFile(wheel) as archive:
            own = 2 if wheel.name.startswith("queue_runner-") else 1
            size += own * sum(-(-entry.file_size // 4096) * 4096 for entry in archive.infolist())
    return size


def see_whose_jobs() -> str:
    """See that jobs can't submit jobs; a warning where the settings say as whom they run.

    Raises InstallRefused for a user whom nobody has chosen.
    """
    if not SETTINGS.exists():
        default = default_job_user()
        if may_submit(default):
            raise InstallRefused(
                f"jobs would run as {default}, who is in the group {GROUPS[0]}, so that they could "
                f'submit jobs: write job_user = "NAME" into {SETTINGS}, or take the user out of it'
            )
        return ""
    try:
        name = tomllib.loads(SETTINGS.read_text()).get("job_user")
    except (OSError, ValueError) as error:
        return f"{SETTINGS}: {error}"
    if isinstance(name, str) and name != "root" and may_submit(name):
        return f"{name}, the job_user, is in the group {GROUPS[0]}: its jobs can submit jobs"
    return ""
