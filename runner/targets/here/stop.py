"""Stop a process of this machine that works on queues, and wait until it has ended."""

from __future__ import annotations

import os
import select

from runner.control.client import Client
from runner.targets.port import Say, Stopped


def stop_process(client: Client, *, detach: bool, say: Say) -> Stopped:
    """Have it stop, and return when its process has ended: then another may start."""
    who = client.ask("ping")["who"]
    watched = _watch(client.peer)
    try:
        client.timeout = None
        client.ask("stop", detach=detach or None)
        if watched is not None:
            if not detach:
                say(f"waiting for the jobs of {who} to end")
            select.select([watched], [], [])
    finally:
        if watched is not None:
            os.close(watched)
    return Stopped(f"stopped {who}", {"stopped": who, "pid": client.peer})


def _watch(pid: int) -> int | None:
    """A descriptor that is readable once the process has ended (pidfd_open(2))."""
    try:
        return os.pidfd_open(pid) if pid else None
    except OSError:
        return None
