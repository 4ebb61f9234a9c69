"""The removal of what is on record, and of nothing else."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

from .files import beside_of
from .places import (
    BIN,
    GROUPS,
    JOB_HOME,
    JOB_USER,
    LOGS,
    SETTINGS,
    STATE,
    UNITS,
    VERSIONS,
)
from .record import InstallRecord, Standing, Thing, named, standing
from .system import booted, call, runs
from .versions import discard, sweep

KEPT = {
    *(str(path) for path in (STATE, LOGS, SETTINGS.parent, SETTINGS, JOB_HOME)),
    *(named("group", name) for name in GROUPS),
    named("user", JOB_USER),
}
"""What stays until it is purged."""


def uninstall(*, purge: bool) -> None:
    record = InstallRecord.read()
    if not record.things:
        # An uninstallation that was cut at its very end.
        record.forget([])
        print("there is nothing on this machine that this installer has made")
        return
    runner = BIN / "runner"
    if booted() and runner.exists() and str(BIN) in record.things and runs("runner.service"):
        # Interrupts the jobs, in order: what is left of them would have nobody to tell.
        call(str(runner), "stop")
    if str(VERSIONS) in record.things:
        sweep()
    remove_all(record, [key for key in record.things if purge or key not in KEPT])
    paths = [key for key in record.things if key in KEPT and os.path.exists(key)]
    kept = f"; {', '.join(paths)} are kept" if paths else ""
    print(f"runner is removed{kept}")


def remove_all(record: InstallRecord, keys: Iterable[str]) -> None:
    """Remove what is as it was made, last made first, and name what isn't.

    Raises InstallRefused.
    """
    keys = list(keys)
    stop([Path(key) for key in keys if Path(key).parent == UNITS])
    for key in reversed(keys):
        if why := remove(key, record.things[key]):
            print(f"install.sh: {key} is kept: {why}", file=sys.stderr)
    if booted() and any(Path(key).parent == UNITS for key in keys):
        call("systemctl", "daemon-reload")
    record.forget(keys)


def stop(units: list[Path]) -> None:
    """Stop and disable units, as far as they are there."""
    now = ["--now"] if booted() else []
    # Timers first: one that fires meanwhile would start its service again, and fail the stop.
    for kind in (".timer", ".service"):
        there = [unit.name for unit in units if unit.suffix == kind and unit.exists()]
        if active := [name for name in there if "@." not in name]:
            call("systemctl", "disable", "--quiet", *now, *active)
        # A template has instances, which systemd stops by a pattern alone.
        for template in (name for name in there if "@." in name):
            if booted():
                call("systemctl", "stop", template.replace("@.", "@*."))
            call("systemctl", "disable", "--quiet", template)
    if booted() and (slices := [unit.name for unit in units if unit.suffix == ".slice"]):
        call("systemctl", "stop", *slices)


def remove(key: str, thing: Thing) -> str:
    """Remove one thing; why it stays, "" if it is gone. Raises InstallRefused, OSError."""
    path = Path(key)
    if thing.kind in ("file", "link"):
        # Of a writer that was killed.
        beside_of(path).unlink(missing_ok=True)
    match standing(key, thing):
        case Standing.ABSENT:
            return ""
        case Standing.OTHER:
            return "it isn't what was made"
    match thing.kind:
        case "user":
            call("userdel", key.partition(" ")[2])
        case "group":
            call("groupdel", key.partition(" ")[2])
        case "folder":
            return remove_folder(path) if thing.made else ""
        case "tree" if path.parent == VERSIONS:
            discard(path)
        case "tree" if thing.made and not os.path.ismount(path):
            shutil.rmtree(path)
        case "tree":
            empty(path)
        case _:
            path.unlink()
    return ""


def remove_folder(folder: Path) -> str:
    try:
        folder.rmdir()
    except OSError:
        return f"there is more in it ({', '.join(sorted(os.listdir(folder))[:5])})"
    return ""


def empty(folder: Path) -> None:
    """Remove what is in a folder that is another's: a mount, or was there before."""
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        else:
            os.unlink(entry.path)
