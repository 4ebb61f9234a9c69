"""Who a process is: pid and start time within one boot. Pids are reused; this pair is not.

Owns what is read from /proc about a single process. The shim imports it: nothing but ``os`` here.
What cannot be read for want of descriptors or memory raises OSError: a living process must never
be taken for a dead one.
"""

from __future__ import annotations

import os
from typing import NamedTuple

SHIM_MARK = "runner-shim"
"""The last argument but one of every shim's command line; the last names its record file."""

FORKER_NAME = b"runner-forker"
"""What the shim forker calls itself; its command line is that of its shims."""

_GONE = (FileNotFoundError, ProcessLookupError, PermissionError)
"""No such process, or one that /proc hides from us (hidepid): none of ours."""


class Process(NamedTuple):
    """One process and no other; ``start`` in clock ticks after boot."""

    pid: int
    start: int


def boot_id() -> str:
    """The kernel's id of this boot and the start of the first process in sight.

    A container that is started again has the same boot, but its pids begin anew.
    """
    with open("/proc/sys/kernel/random/boot_id") as file:
        boot = file.read().strip()
    first = stat_fields(1)
    return f"{boot}.{first[19]}" if first else boot


def stat_fields(pid: int | str) -> list[str] | None:
    """The fields of /proc/PID/stat after the name: state, ppid, pgrp, session, … or None."""
    found = named_fields(pid)
    return found[1] if found is not None else None


def named_fields(pid: int | str) -> tuple[bytes, list[str]] | None:
    """The name of a process and the fields after it, or None if it is gone.

    The name may hold spaces and brackets: it goes up to the last one.
    """
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except _GONE:
        return None
    try:
        text = os.read(fd, 4096)
    except _GONE:
        return None
    finally:
        os.close(fd)
    end = text.rindex(b")")
    return text[text.index(b"(") + 1 : end], text[end + 2 :].decode("ascii").split()


def start_time(pid: int | str, *, dead: bool = False) -> int | None:
    """Clock ticks after boot at which the process started (field 22); None if it's gone.

    A zombie counts as gone, as it can neither run nor be signalled, unless ``dead`` will do.
    """
    fields = stat_fields(pid)
    if fields is None or (fields[0] in "ZX" and not dead):
        return None
    return int(fields[19])


def open_process(process: Process) -> int | None:
    """A pidfd of this very process, for the caller to close; None if it is gone."""
    try:
        fd = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return None
    try:
        if start_time(process.pid) == process.start:
            return fd
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return None


def users_of(pid: int | str) -> frozenset[int]:
    """The real, effective and saved user of a process; none if it is gone.

    Not the owner of its folder in /proc, which is the effective one alone: root, where anybody has
    started a set-user-ID program of root's.
    """
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            for line in file:
                if line.startswith(b"Uid:"):
                    return frozenset(map(int, line.split()[1:4]))
    except _GONE:
        pass
    return frozenset()


def is_shim(process: Process, mark: str) -> bool:
    """Whether this very process is alive and is a shim of the record file with this mark.

    It has our own rights, all of them: a job could bear any command line.
    """
    if start_time(process.pid) != process.start:
        return False
    try:
        with open(f"/proc/{process.pid}/cmdline", "rb") as file:
            words = file.read().split(b"\0")
    except _GONE:
        return False
    marked = words[-3:-1] == [SHIM_MARK.encode(), mark.encode()]
    return marked and users_of(process.pid) == {os.geteuid()}
