"""The shim forker: a small process that forks shims, so that one costs 2 ms and not 20.

Started by the daemon as ``python -I -S``, with its socket on descriptor 3 and nothing else open.
A message ``=`` carries the record file, the base of all environments, the user of all commands
and where their control groups are: the first one, and one for each session that it serves after the
first. A message ``+`` carries the socket of a new shim. It adopts
what a shim that was killed leaves behind, so that this can be told from everything else: by the
daemon that it serves, or by the next. So it outlives its daemon as long as it has children.
"""

from __future__ import annotations

import ctypes
import gc
import os
import resource
import signal
import socket
from contextlib import suppress

from runner.process import shim, shim_protocol
from runner.process.identity import FORKER_NAME, boot_id
from runner.process.login import login_for
from runner.process.shim_records import ShimRecordFile

CONTROL_FD = 3

_PR_SET_NAME = 15  # <linux/prctl.h>
_PR_SET_CHILD_SUBREAPER = 36
_KEPT = {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}
_FAULTS = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT}


def main(open_files: int) -> None:
    """Fork a shim for every socket that arrives, until the daemon is gone.

    ``open_files`` is the soft limit that the daemon was given, and its jobs are to have.
    """
    _close_others()
    os.chdir("/")
    _ignore_signals()
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (open_files, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    )
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    libc.prctl(_PR_SET_NAME, FORKER_NAME, 0, 0, 0)
    control = socket.socket(fileno=CONTROL_FD)
    control.set_inheritable(False)
    _, fds = _receive(control)
    shared = _opening(control, fds)
    if shared is None:
        return
    # A fork shares pages until they are written; the collector writes to all of them.
    gc.collect()
    gc.freeze()
    gc.disable()
    while True:
        data, fds = _receive(control)
        if not data:
            break
        if data == b"=":
            if (opened := _opening(control, fds)) is None:
                break
            os.close(shared.shim_records.fd)
            shared = opened
        elif fds:
            _fork(libc, control, socket.socket(fileno=fds[0]), shared)
    control.close()
    os.close(shared.shim_records.fd)
    with suppress(ChildProcessError):
        # As SIGCHLD is ignored, this returns when the last child has ended (wait(2), NOTES).
        os.waitpid(-1, 0)


def _opening(control: socket.socket, fds: list[int]) -> shim.Shared | None:
    """What all shims have in common from now on; None where the daemon is gone."""
    base, user, unit = (shim_protocol.read_message(control) for _ in range(3))
    if not fds or base is None or user is None or unit is None:
        return None
    return shim.Shared(
        ShimRecordFile(fds[0]),
        shim_protocol.decode_base(base),
        boot_id(),
        login_for(shim_protocol.decode_user(user)),
        shim_protocol.decode_unit(unit),
    )


def _close_others() -> None:
    """Close what the daemon was called with: a lock of its caller's is no business of a job."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) > CONTROL_FD:
            try:
                os.close(int(name))
            except OSError:
                # It was the listing's own.
                pass


def _receive(control: socket.socket) -> tuple[bytes, list[int]]:
    data, fds, _, _ = socket.recv_fds(control, 1, 1)
    for fd in fds:
        # Not by a flag of the call: Python 3.11's recv_fds drops it.
        os.set_inheritable(fd, False)
    return data, fds


def _fork(
    libc: ctypes.CDLL, control: socket.socket, channel: socket.socket, shared: shim.Shared
) -> None:
    try:
        pid = os.fork()
    except OSError:
        # The daemon sees the socket close, and tries again later.
        channel.close()
        return
    if pid == 0:
        control.close()
        libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        libc.prctl(_PR_SET_NAME, b"runner-shim", 0, 0, 0)
        shim.run(channel, shared)
    channel.close()


def _ignore_signals() -> None:
    """A shim dies by SIGKILL or by a fault of its own, whatever its job sends to its parent."""
    for number in signal.valid_signals():
        if number not in _KEPT | _FAULTS:
            signal.signal(number, signal.SIG_IGN)
    # Nobody waits for a shim: the kernel is to reap it.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
