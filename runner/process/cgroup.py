"""The control group of one attempt: its whole tree, named by the kernel and not found by us.

Groups live below a folder of the jobs' own unit, ``<unit>/attempts/<token>``, shims in
``<unit>/shims``: a job that forks until it may no more doesn't take its shim's room. Where there
is no such folder everything here is left out, and trees are found as `tree` finds them. The shim
imports this: standard library only, and little of it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from contextlib import suppress
from typing import NamedTuple

ATTEMPTS = "attempts"
SHIMS = "shims"

EMPTY_WITHIN = 5.0
LOOK_AGAIN_AFTER = 0.002
"""Seconds that killed processes get to be gone, and between two looks."""

_SYS_CLONE3 = 435  # the same number on every architecture
_CLONE_INTO_CGROUP = 0x200000000  # <linux/sched.h>, since Linux 5.7

_libc = ctypes.CDLL(None, use_errno=True)


class _CloneArguments(ctypes.Structure):
    """``struct clone_args`` of clone3(2)."""

    _fields_ = tuple(
        (name, ctypes.c_uint64)
        for name in (
            *("flags", "pidfd", "child_tid", "parent_tid", "exit_signal", "stack", "stack_size"),
            *("tls", "set_tid", "set_tid_size", "cgroup"),
        )
    )


class Figures(NamedTuple):
    """What the kernel counted for a group; None where it doesn't.

    ``peak`` is in bytes, file cache included (cgroup-v2.rst, "memory.peak"); ``oom_kills``: of how
    many of its processes the kernel took back the memory.
    """

    cpu_seconds: float | None
    peak: int | None
    oom_kills: int


class Group:
    """One attempt's group below the unit's folder ``unit``."""

    def __init__(self, unit: str, token: str) -> None:
        self.path = os.path.join(unit, ATTEMPTS, token)

    def make(self) -> bool:
        """Whether it is there now, for a command to be started in."""
        try:
            os.mkdir(self.path)
        except FileExistsError:
            pass
        except OSError:
            # The unit was stopped, or there are too many groups. The command runs all the same.
            return False
        return True

    def fork(self) -> int:
        """Like os.fork, with the child in this group from its first instruction. Raises OSError.

        Only for a child that soon becomes another program. To move a process that exists waits
        for the whole machine (a grace period of RCU), which the kernel spares one that is new.
        """
        fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            asked = _CloneArguments(flags=_CLONE_INTO_CGROUP, exit_signal=signal.SIGCHLD, cgroup=fd)
            pid: int = _libc.syscall(_SYS_CLONE3, ctypes.byref(asked), ctypes.sizeof(asked))
            if pid >= 0:
                return pid
        finally:
            os.close(fd)
        # Containers forbid the call.
        pid = os.fork()
        if pid == 0:
            with suppress(OSError):
                enter(self.path, 0)
        return pid

    def figures(self) -> Figures:
        """What has been counted so far."""
        usage = _value(self._read("cpu.stat"), "usage_usec")
        peak = self._read("memory.peak").strip()
        kills = _value(self._read("memory.events"), "oom_kill") or 0
        return Figures(
            None if usage is None else usage / 1e6, int(peak) if peak.isdigit() else None, kills
        )

    def kill(self) -> bool:
        """SIGKILL to all of it at once, whatever it forks; False where the kernel can't."""
        try:
            _write(os.path.join(self.path, "cgroup.kill"), "1")
        except OSError:
            # There is no such group, or the kernel is older than 5.14.
            return False
        return True

    def is_empty(self) -> bool:
        """Whether no process is in it; also if it is gone."""
        return _value(self._read("cgroup.events"), "populated") != 1

    def end(self) -> None:
        """Kill what is left of it, and remove it. What can't be killed keeps it."""
        deadline = time.monotonic() + EMPTY_WITHIN
        while not self.is_empty() and self.kill() and time.monotonic() < deadline:
            time.sleep(LOOK_AGAIN_AFTER)  # reason: of strangers' ends nobody is told
        self.remove()

    def remove(self) -> None:
        """Remove it if it is empty; also what containers made below it."""
        for folder, _, _ in os.walk(self.path, topdown=False):
            with suppress(OSError):
                os.rmdir(folder)

    def _read(self, name: str) -> str:
        try:
            with open(os.path.join(self.path, name), encoding="ascii") as file:
                return file.read()
        except OSError:
            return ""


def enter(folder: str, pid: int) -> None:
    """Move a process into a group; 0 is the caller. Raises OSError."""
    _write(os.path.join(folder, "cgroup.procs"), str(pid))


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def _value(text: str, name: str) -> int | None:
    """The number beside a name in one of the kernel's flat files."""
    words = text.split()
    return int(words[words.index(name) + 1]) if name in words else None
