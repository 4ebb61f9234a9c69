"""What is allowed in a document, and yet likely to hurt."""

from __future__ import annotations

import os
from collections.abc import Sequence

from runner.model.document import Job


def tmpfs_results(jobs: Sequence[Job]) -> list[str]:
    """Result paths on a tmpfs of this machine: a reboot empties it."""
    mounts = _tmpfs_mounts()
    found = []
    for index, job in enumerate(jobs):
        for path in (result.path for result in job.result_paths):
            mount = _mount_of(path, mounts) if path.startswith("/") else None
            if mount is not None:
                where = f"jobs[{index}].result_paths"
                found.append(f"{where}: {path} is on a tmpfs ({mount}): a reboot empties it")
    return found


def _tmpfs_mounts() -> dict[str, bool]:
    """Mount points, and whether each is a tmpfs (proc(5), /proc/self/mounts); none but on Linux."""
    mounts: dict[str, bool] = {}
    if not os.path.exists("/proc/self/mounts"):
        return mounts
    with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            _, point, kind, *_ = line.split(" ")
            mounts[point.replace("\\040", " ")] = kind in ("tmpfs", "ramfs")
    return mounts


def _mount_of(path: str, mounts: dict[str, bool]) -> str | None:
    """The tmpfs that holds the path, if one does."""
    folder = os.path.normpath(path)
    while folder not in mounts:
        parent = os.path.dirname(folder)
        if parent == folder:
            return None
        folder = parent
    return folder if mounts[folder] else None
