"""How many processors what we start may use at once."""

from __future__ import annotations

import math
import os
from pathlib import Path, PurePosixPath

_CGROUPS = Path("/sys/fs/cgroup")


def usable_processors() -> int:
    """Those of our affinity, cut by the quota of our control group and of those above it; at least
    one. A quota of two and a half processors counts as two."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(count or 1, _quota()))


def _quota(proc: Path = Path("/proc/self/cgroup"), root: Path = _CGROUPS) -> int:
    """Whole processors by the least ``cpu.max`` on the way up (kernel, admin-guide/cgroup-v2); a
    large number where there is none."""
    least = math.inf
    try:
        lines = proc.read_text().splitlines()
    except OSError:
        lines = []
    own = next((line[3:] for line in lines if line.startswith("0::")), "/")
    for folder in (PurePosixPath(own), *PurePosixPath(own).parents):
        try:
            quota, period = (root / str(folder).lstrip("/") / "cpu.max").read_text().split()
            least = min(least, int(quota) / int(period))
        except (OSError, ValueError):  # none there, or "max"
            continue
    return 1 << 20 if math.isinf(least) else int(least)
