"""Which daemon of this machine answers for a state folder, found by its socket."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from runner.errors import SilentError, UnreachableError
from runner.model.settings import Settings

if TYPE_CHECKING:
    from runner.control.client import Client

ANSWER_WITHIN = 10.0
"""Seconds that a process has for an answer before the state folder is read instead."""


def find_daemon(settings: Settings) -> Client | None:
    """A client of the user's own daemon, else of the machine's. Raises SilentError."""
    return find_own_daemon(settings) or find_machine_daemon(settings)


def find_machine_daemon(settings: Settings) -> Client | None:
    """A client of the daemon that root runs for all users, if there is one."""
    folder = settings.machine_run_dir
    if folder is None:
        return None
    return open_socket(folder / "runner.sock") or open_socket(folder / "runner-ro.sock")


def find_own_daemon(settings: Settings) -> Client | None:
    """A client of the daemon of this state folder, if there is one. Raises SilentError."""
    ours = os.path.realpath(settings.state_dir)
    for name in ("runner.sock", "runner-ro.sock"):
        client = open_socket(settings.run_dir / name)
        if client is None:
            continue
        try:
            if client.ask("ping").get("state_dir") == ours:
                return client
        except SilentError:
            client.close()
            raise
        except UnreachableError:
            # It has just ended, or is another program.
            pass
        # A daemon of another state folder does not have the queue.
        client.close()
    return None


def open_socket(path: Path) -> Client | None:
    """A client of the process that listens there, if one does."""
    if not os.path.exists(path):
        # Mostly so: what speaks to a socket isn't imported for that.
        return None
    from runner.control.client import Client

    try:
        return Client(path, ANSWER_WITHIN)
    except UnreachableError:
        return None
