"""The unit that jobs live in: beside the daemon's own, and not restarted with it.

If jobs had their groups below the daemon's unit with any controller on, systemd couldn't put a
restarted daemon back into it (status=219/CGROUP): processes live in leaves only. So a unit of
their own is delegated to us, and this prepares it.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

UNIT = "runner-jobs.service"

_CONTROLLERS = ("memory", "cpu", "pids")
ROOM_FOR_SHIMS = 512
"""Processes of the unit's TasksMax= that jobs leave to their shims."""


def find() -> Path | None:
    """The unit's folder, if it runs and is our neighbour; None outside systemd."""
    own = _own_group(Path("/proc/self/cgroup").read_text())
    mount = _mount_point(Path("/proc/self/mountinfo").read_text())
    if own is None or mount is None or not own.endswith(".service"):
        return None
    folder = Path(f"{mount}{os.path.dirname(own)}") / UNIT
    return folder if folder.is_dir() else None


def prepare(folder: Path) -> None:
    """Make the groups for shims and attempts below it; done again by every start.

    Raises OSError where we may not. A controller that isn't there (they may all be taken by
    cgroup v1) is left out: what it would have counted isn't known.
    """
    shims, attempts = folder / "shims", folder / "attempts"
    for each in (shims, attempts):
        each.mkdir(exist_ok=True)
    # What systemd started it with: a folder that passes controllers on may hold no process.
    for pid in (folder / "cgroup.procs").read_text().split():
        with suppress(ProcessLookupError):
            (shims / "cgroup.procs").write_text(pid)
    for each in (folder, attempts):
        there = (each / "cgroup.controllers").read_text().split()
        for name in _CONTROLLERS:
            if name in there:
                with suppress(OSError):
                    (each / "cgroup.subtree_control").write_text(f"+{name}")
    _leave_room(folder, attempts)
    # Of shims that were killed. What still lives in one keeps it.
    for each in attempts.iterdir():
        with suppress(OSError):
            each.rmdir()


def _leave_room(folder: Path, attempts: Path) -> None:
    with suppress(OSError):
        limit = (folder / "pids.max").read_text().strip()
        if limit.isdigit() and int(limit) > 2 * ROOM_FOR_SHIMS:
            (attempts / "pids.max").write_text(str(int(limit) - ROOM_FOR_SHIMS))


def _own_group(text: str) -> str | None:
    """Our group in the unified hierarchy, from /proc/self/cgroup (cgroups(7))."""
    for line in text.splitlines():
        if line.startswith("0::"):
            return line[3:]
    return None


def _mount_point(text: str) -> str | None:
    """Where that hierarchy is mounted, from /proc/self/mountinfo (proc(5))."""
    for line in text.splitlines():
        fields, _, kind = line.partition(" - ")
        if kind.startswith("cgroup2 "):
            return fields.split()[4]
    return None
