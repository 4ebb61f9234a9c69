"""What attempts leave behind where others can see it: evidence, records, locks, processes."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path

SLOT = 512
"""Bytes of one record of the slot file: lines that begin with what they tell, then the token."""


@dataclass(frozen=True)
class Attempt:
    """An attempt under way; ``command`` None: its shim is just about to start it."""

    token: str
    shim: int
    command: int | None


def attempt_in(record: bytes) -> Attempt | None:
    """The attempt that a record tells of, if it has been claimed and has not ended."""
    lines = (line.split() for line in record.decode("ascii", "replace").splitlines())
    told = {words[0]: words[1:] for words in lines if words}
    token = told.get("intent", [""])[0]
    own = {kind: words[1:] for kind, words in told.items() if words[:1] == [token]}
    if not token or "claim" not in own or "exit" in own:
        return None
    command = int(own["command"][0]) if "command" in own else None
    return Attempt(token, int(own["claim"][0]), command)


@dataclass(frozen=True)
class Line:
    """What a job told of itself; ``up`` is the machine's uptime in seconds, to a hundredth."""

    up: float
    run: str
    job_id: str
    attempt: int
    what: str


def is_locked(path: Path) -> bool:
    """Seen in proc(5), /proc/locks: to try the lock would be to hold it for a moment."""
    try:
        inode = path.stat().st_ino
    except FileNotFoundError:
        return False
    locks = Path("/proc/locks").read_text()
    return any(line.split()[5].endswith(f":{inode}") for line in locks.splitlines())


def pids() -> list[int]:
    """All processes but this one and its parent."""
    own = {os.getpid(), os.getppid()}
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) not in own]


def told_by(pid: int) -> bytes:
    """The command line and the environment of a living process; empty for a zombie."""
    told = b""
    for name in ("cmdline", "environ"):
        try:
            told += Path(f"/proc/{pid}/{name}").read_bytes()
        except OSError:
            pass
    return told


def kill(pid: int, number: int = signal.SIGKILL) -> bool:
    """Signal a process that is ours; False when it is gone."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True
