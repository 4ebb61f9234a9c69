"""Takes from Python what only Linux has: an imitation of a Mac, for what a laptop does.

On the PYTHONPATH of a process under test. It can't show what a Mac has and Linux hasn't.
"""

from __future__ import annotations

import builtins
import ctypes
import errno
import fcntl
import io
import os
import resource
import select
import signal
import socket
import sys
import sysconfig
import time
from collections.abc import Callable
from typing import Any

# From the "Availability" notes of Python's own documentation.
ABSENT = {
    os: (
        "pidfd_open memfd_create eventfd pipe2 fdatasync posix_fallocate posix_fadvise waitid "
        "sched_getaffinity sched_setaffinity setresuid setresgid getresuid getresgid getxattr "
        "setxattr listxattr copy_file_range splice O_PATH O_TMPFILE P_PIDFD unshare setns"
    ),
    signal: "pidfd_send_signal sigtimedwait sigwaitinfo SIGPWR SIGRTMIN SIGRTMAX",
    socket: "SO_PEERCRED SOCK_CLOEXEC SOCK_NONBLOCK MSG_CMSG_CLOEXEC AF_NETLINK SO_PASSCRED",
    select: "epoll",
    fcntl: "F_OFD_SETLK F_OFD_SETLKW F_OFD_GETLK F_GETPIPE_SZ F_SETPIPE_SZ F_ADD_SEALS",
    resource: "prlimit RLIMIT_NICE RLIMIT_RTPRIO RLIMIT_SIGPENDING",
    time: "CLOCK_BOOTTIME CLOCK_TAI",
}
NOT_THERE = ("/proc", "/sys", "/run", "/dev/shm")


def _refuses(call: Callable[..., Any]) -> Callable[..., Any]:
    def wrapped(path: Any, *args: Any, **named: Any) -> Any:
        told = os.fspath(path) if isinstance(path, str | bytes | os.PathLike) else ""
        text = os.fsdecode(told)
        if any(text == place or text.startswith(f"{place}/") for place in NOT_THERE):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), text)
        return call(path, *args, **named)

    return wrapped


class _Socket(socket.socket):
    def connect(self, address: Any) -> None:
        if isinstance(address, str) and address.startswith(NOT_THERE):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        super().connect(address)


class _Library(ctypes.CDLL):
    def __getattr__(self, name: str) -> Any:
        if name in ("prctl", "syscall", "mount", "setfsuid", "setfsgid", "epoll_create1"):
            raise AttributeError(name)
        return super().__getattr__(name)


for _module, _names in ABSENT.items():
    for _name in _names.split():
        if hasattr(_module, _name):
            delattr(_module, _name)
for _name in ("open", "stat", "lstat", "listdir", "scandir", "readlink", "mkdir", "access"):
    setattr(os, _name, _refuses(getattr(os, _name)))
builtins.open = io.open = _refuses(open)
socket.socket = _Socket  # type: ignore[misc]
ctypes.CDLL = _Library  # type: ignore[misc]
# Read now, and kept: the file of a Mac's build isn't here. pydantic asks for a name in it.
sysconfig.get_config_vars()
sys.platform = "darwin"
