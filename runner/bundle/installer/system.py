"""The machine: systemd, its processes, and that one installer is at work at a time."""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
from pathlib import Path

from .places import InstallRefused


def alone() -> None:
    """Only one installer at a time, until this process ends. The lock leaves no file."""
    try:
        fcntl.flock(os.open("/etc", os.O_RDONLY), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InstallRefused("another install.sh is at work on this machine") from None


def booted() -> bool:
    """Whether systemd runs here; it doesn't where an image is made."""
    return Path("/run/systemd/system").is_dir()


def runs(unit: str) -> bool:
    return subprocess.run(["systemctl", "is-active", "--quiet", unit]).returncode == 0


def call(*words: str) -> None:
    """Raises InstallRefused with what the command says."""
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode != 0:
        told = re.sub(r"\s+", " ", done.stderr or done.stdout).strip()
        raise InstallRefused(
            f"`{' '.join(words)}` failed: {told}; call this again when that is mended"
        )


def running() -> str:
    """The command lines and mapped files of all processes."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        for name in ("cmdline", "maps"):
            try:
                found.append((process / name).read_bytes().decode(errors="replace"))
            except OSError:
                continue
    return "\n".join(found)
