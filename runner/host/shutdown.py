"""Whether the machine goes down, or only this service: systemd sends the same SIGTERM for both."""

from __future__ import annotations

import os
import subprocess

GRACE = 60.0
"""Seconds that jobs get at most when the machine goes down: a spot machine has two minutes."""

_PATIENCE = 5.0

_SYSTEMD = "/run/systemd/system"
"""There while systemd runs the machine (sd_booted(3))."""


def machine_goes_down() -> bool:
    """Whether systemd is on its way to power off, reboot or halt. Takes some 10 ms: not on a loop.

    ``systemctl is-system-running`` says "starting" of a shutdown in mid-boot; the target that every
    shutdown pulls in is queued, or there, all the same (bootup(7)). Nobody to ask: no.
    """
    if not os.path.isdir(_SYSTEMD):
        return False
    ask = ["systemctl", "show", "--property=ActiveState", "--property=Job", "shutdown.target"]
    try:
        done = subprocess.run(
            ask, capture_output=True, text=True, timeout=_PATIENCE, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    told = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    # Without a job the property is empty.
    return told.get("ActiveState") in ("active", "activating") or bool(told.get("Job"))
