"""The daemon's end of the shim forker: started at need, and again when it was killed.

Owns the one child process of the daemon. What a shim says is ``spawner``'s business.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import runner
from runner.process import cgroup, shim_protocol
from runner.process.identity import SHIM_MARK
from runner.process.limits import given_descriptors
from runner.process.shim_forker import CONTROL_FD
from runner.process.shim_protocol import User
from runner.process.shim_records import ShimRecordFile

SEND_TIMEOUT = 5.0
"""Seconds that a forker which doesn't read (somebody stopped it) may hold the daemon up."""

_CODE = (
    "import sys; sys.path.append(sys.argv[1]); "
    "from runner.process.shim_forker import main; main(int(sys.argv[2]))"
)


class ForkerClient:
    """Makes shims for one record file at a time. ``base``: under the environment of each command.

    ``user``: as whom commands run, None for our own. ``unit``: the folder of the control groups
    that they, their shims and the forker live in, None for the daemon's own.
    """

    def __init__(
        self,
        shim_records: ShimRecordFile,
        base: Mapping[str, str],
        user: User | None,
        unit: str | None,
    ) -> None:
        self._shim_records = shim_records
        self._opening = shim_protocol.encode_base(base) + shim_protocol.encode_user(user)
        self._unit = unit
        self._control: socket.socket | None = None
        self._alive_as = ""
        self._pid = 0

    def open_channel(self) -> socket.socket:
        """A socket to a shim that is on its way. Raises OSError when there can't be one now."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            ours.setblocking(False)
            self._send(theirs)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        return ours

    def _send(self, channel: socket.socket) -> None:
        for again in (True, False):
            try:
                if self._control is None:
                    self._start()
                assert self._control is not None
                socket.send_fds(self._control, [b"+"], [channel.fileno()])
                return
            except OSError:
                # It was killed, or stopped. Its shims live on; a new one takes over.
                self.kill()
                if not again:
                    raise

    def _start(self) -> None:
        _reap_left()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._pid = os.posix_spawn(
                sys.executable,
                self._arguments(),
                {"PATH": os.defpath, "LC_ALL": "C.UTF-8"},
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, theirs.fileno(), CONTROL_FD),
                    (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0),
                    (os.POSIX_SPAWN_OPEN, 2, "/dev/null", os.O_WRONLY, 0),
                ],
                # At once, and not by itself: a terminal's Ctrl-C must not meet it on its way.
                setsid=True,
                setsigmask=[],
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self._control = ours
        self._alive_as = self._shim_records.mark
        ours.settimeout(SEND_TIMEOUT)
        self._send_opening(ours)

    def _send_opening(self, control: socket.socket) -> None:
        socket.send_fds(control, [b"="], [self._shim_records.fd])
        control.sendall(self._opening + shim_protocol.encode_unit(self._moved()))

    def serve(
        self,
        shim_records: ShimRecordFile,
        base: Mapping[str, str],
        user: User | None,
        unit: str | None,
    ) -> None:
        """Make shims for these from now on, by the process that runs already if it can.

        Its command line names the record file: a process serves no other.
        """
        self._shim_records = shim_records
        self._opening = shim_protocol.encode_base(base) + shim_protocol.encode_user(user)
        self._unit = unit
        if self._control is not None and self._alive_as == shim_records.mark:
            try:
                self._send_opening(self._control)
                return
            except OSError:
                self.kill()
        self.close()

    def _moved(self) -> str | None:
        """The unit, with the forker in it; None if it is gone: jobs then live where we do."""
        if self._unit is None:
            return None
        try:
            cgroup.enter(os.path.join(self._unit, cgroup.SHIMS), self._pid)
        except OSError:
            return None
        return self._unit

    def _arguments(self) -> list[str]:
        root = str(Path(runner.__file__).parent.parent)
        options = [sys.executable, "-I", "-S", "-X", "utf8", "-c", _CODE]
        return [*options, root, str(given_descriptors()), SHIM_MARK, self._shim_records.mark]

    def kill(self) -> None:
        """End it at once. As long as it is our child and not reaped its pid is nobody else's."""
        if self._control is not None:
            self._control.close()
            self._control = None
            if _end_of(self._pid, os.WNOHANG) == 0:
                os.kill(self._pid, signal.SIGKILL)
                _end_of(self._pid)

    def close(self) -> None:
        """Let go of it: it ends by itself when its shims, and what it has adopted, have ended."""
        if self._control is not None:
            self._control.close()
            self._control = None
            if _end_of(self._pid, os.WNOHANG) == 0:
                # A job may have stopped it.
                os.kill(self._pid, signal.SIGCONT)
                _left.add(self._pid)
        _reap_left()


class ForkerHolder:
    """Keeps a forker from one session to the next, for sessions that come one after the other.

    To start one takes 30 ms of processor time. Only sessions whose record file is the same file
    (``lay_out``) share one. For one thread.
    """

    def __init__(self) -> None:
        self._kept: ForkerClient | None = None

    def lay_out(self, shared: Path, own: Path) -> None:
        """Make the record file of the next session, ``own``, another name of the file ``shared``.

        Where a file can't have two names the session has its own, and its own forker.
        """
        with suppress(OSError):
            if self._kept is None:
                # A tree of an earlier session may still be on record in the former one.
                shared.unlink(missing_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
            os.close(os.open(shared, flags, 0o600))
            os.link(shared, own)

    def take(
        self,
        shim_records: ShimRecordFile,
        base: Mapping[str, str],
        user: User | None,
        unit: str | None,
    ) -> ForkerClient:
        """One for a session, started at need."""
        kept, self._kept = self._kept, None
        if kept is None:
            return ForkerClient(shim_records, base, user, unit)
        kept.serve(shim_records, base, user, unit)
        return kept

    def keep(self, forker: ForkerClient) -> None:
        """Take one back from a session that has ended, with nothing of it left."""
        self.close()
        self._kept = forker

    def close(self) -> None:
        """Let go of what is kept."""
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.close()


_left: set[int] = set()
"""Forkers of this process that were let go of and not reaped yet."""


def _reap_left() -> None:
    for pid in list(_left):
        if _end_of(pid, os.WNOHANG):
            _left.discard(pid)


def _end_of(pid: int, options: int = 0) -> int:
    """waitpid(2) of a child of ours: 0 while it lives. In a program that reaps whatever child has
    ended, or ignores SIGCHLD, it is the kernel that says it is gone."""
    try:
        return os.waitpid(pid, options)[0]
    except ChildProcessError:
        return pid
