"""How much room the disks have left."""

import os
from typing import Dict, Tuple

PLACES = ("/", "/var/lib/runner-boot", "/var/log", "/opt", "/tmp")
LITTLE = 16 << 20
"""Bytes. With fewer free, a failure is likely to be one of room."""


def full_disks() -> str:
    """Words for who reads why something failed; "" when there is room."""
    found: Dict[int, Tuple[str, int, int]] = {}
    for place in PLACES:
        try:
            there = os.statvfs(place)
            free, size = there.f_bavail * there.f_frsize, there.f_blocks * there.f_frsize
            if free < LITTLE and size:
                found.setdefault(os.stat(place).st_dev, (place, free, size))
        except OSError:
            continue
    told = [f"{at}: {free >> 20} of {size >> 20} MiB free" for at, free, size in found.values()]
    return " (the disk is full: {})".format(", ".join(told)) if told else ""
