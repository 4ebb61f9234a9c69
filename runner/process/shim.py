"""The shim: the parent of one attempt after another, and their recorder.

It runs as a forked copy of the shim forker, in a session of its own, ignores what a terminal, a
service manager or its own job sends, and needs no daemon to finish what it began. It must stay
small: standard library, no asyncio, nothing that grows with a job's output.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from typing import NamedTuple, NoReturn

from runner.process import shim_protocol, tree
from runner.process.cgroup import Group
from runner.process.command import Unstarted, start_command
from runner.process.identity import Process, start_time
from runner.process.login import Login
from runner.process.shim_records import AttemptClaim, Exit, ProcessUsage, ShimRecordFile

LEFTOVER_WAIT = 1.0
LEFTOVER_GRACE = 2.0
"""Seconds that what a command leaves behind gets before SIGTERM, and then before SIGKILL."""

SHORTLY = 0.02
"""Seconds for which the news of a start waits, to go with that of the end: one wake-up for two."""

RECORD_TRIES = 5
RECORD_AGAIN_AFTER = 0.2
"""How often an end is tried to be recorded, and the seconds in between."""


class Shared(NamedTuple):
    """What all shims of a forker have in common; ``base`` is under every job's environment.

    ``login``: what commands are given that shims aren't; None: nothing. ``unit``: the folder below
    which each attempt has a control group; None: there are none.
    """

    shim_records: ShimRecordFile
    base: shim_protocol.Environment
    boot_id: str
    login: Login | None
    unit: str | None


class Shim:
    """One shim's life: requests in, one attempt at a time, until the daemon is gone."""

    def __init__(self, channel: socket.socket, shared: Shared) -> None:
        self._channel = channel
        self._shim_records = shared.shim_records
        self._base = shared.base
        self._boot_id = shared.boot_id
        self._login = shared.login
        self._unit = shared.unit
        self._group: Group | None = None
        self._used = ProcessUsage(0.0, 0, 0)
        pid = os.getpid()
        self._self = Process(pid, start_time(pid) or 0)

    def serve(self) -> None:
        """Run requests until the other end closes, or a background tree has been waited for."""
        self._tell(f"H {self._self.pid} {self._self.start}")
        while (body := shim_protocol.read_message(self._channel)) is not None:
            if not self._attempt(shim_protocol.decode_request(body)):
                return

    def _attempt(self, order: shim_protocol.Order) -> bool:
        """One attempt; False when this shim has to end after it (it held a background tree)."""
        claim = AttemptClaim(*self._self, time.monotonic(), self._boot_id)
        try:
            claimed = self._shim_records.claim(order.slot, order.token, claim)
        except OSError as error:
            self._tell(f"V {order.token} claim: {error.strerror}")
            return True
        if not claimed:
            self._tell(f"V {order.token}")
            return True
        group = Group(self._unit, order.token) if self._unit else None
        self._group = group if group is not None and group.make() else None
        self._used = ProcessUsage(0.0, 0, 0)
        reusable = self._run(order, claim)
        self._leave_group()
        return reusable

    def _run(self, order: shim_protocol.Order, claim: AttemptClaim) -> bool:
        environment = {**self._base, **order.environment}
        try:
            pid = start_command(order, environment, self._login, self._group)
        except Unstarted as refusal:
            self._report("E", order, claim, self._record(order, refusal.kind, refusal.why))
            return True
        started = f"S {order.token} {pid} {claim.mono:.6f}\n".encode()
        self._record_command(order, pid)
        status = self._wait_shortly(pid)
        if status is None:
            self._send(started)
            started = b""
            status = self._wait_for(pid)
        end = self._record(order, *_describe(status), self._usage())
        if self._has_children():
            if order.keep_background and status == 0:
                self._report("B", order, claim, end, started)
                self._wait_for(None)
                return False
            self._send(started)
            started = b""
            self._end_leftovers()
        self._report("E", order, claim, end, started)
        return True

    # -- the record --------------------------------------------------------------------------

    def _record_command(self, order: shim_protocol.Order, pid: int) -> None:
        try:
            command = Process(pid, start_time(pid, dead=True) or 0)
            self._shim_records.write_command(order.slot, order.token, command)
        except OSError:
            # It only helps to find the tree if this shim is killed; the token does that too.
            pass

    def _leave_group(self) -> None:
        """All that was in it has ended; what was started elsewhere and moved in may keep it."""
        if self._group is not None:
            self._group.remove()
            self._group = None

    def _usage(self) -> ProcessUsage:
        """What the attempt has used so far: of its group, or of those of its tree that ended."""
        if self._group is None:
            return self._used
        cpu, peak, kills = self._group.figures()
        return ProcessUsage(
            self._used.cpu_seconds if cpu is None else cpu,
            self._used.max_rss if peak is None else peak,
            kills,
        )

    def _record(
        self, order: shim_protocol.Order, kind: str, value: str, usage: ProcessUsage | None = None
    ) -> Exit:
        """Write the end down; where that fails for good, the report still tells a living daemon."""
        end = Exit(kind, value, time.monotonic(), time.time(), usage)
        for again in range(RECORD_TRIES):
            try:
                self._shim_records.write_exit(order.slot, order.token, end)
                break
            except OSError:
                time.sleep(RECORD_AGAIN_AFTER if again < RECORD_TRIES - 1 else 0)
        return end

    # -- the tree ----------------------------------------------------------------------------

    def _wait_shortly(self, pid: int) -> int | None:
        """The wait status of a command that ends within a moment, else None."""
        until = time.monotonic() + SHORTLY
        left = SHORTLY
        while left > 0 and signal.sigtimedwait({signal.SIGCHLD}, left) is not None:
            ended, status = self._reap(pid, os.WNOHANG)
            if ended:
                return status
            # That was of a child of before, which was waited for without it.
            left = until - time.monotonic()
        return None

    def _reap(self, pid: int, options: int = 0) -> tuple[int, int]:
        """waitpid(2), and what the dead one and all that it had reaped took."""
        ended, status, took = os.wait4(pid, options)
        if ended:
            self._used = ProcessUsage(
                self._used.cpu_seconds + took.ru_utime + took.ru_stime,
                max(self._used.max_rss, took.ru_maxrss * 1024),
                0,
            )
        return ended, status

    def _wait_for(self, pid: int | None) -> int:
        """Reap until ``pid`` has ended (None: until there are no children); its wait status."""
        while True:
            try:
                ended, status = self._reap(-1)
            except ChildProcessError:
                if pid is not None:
                    raise
                return 0
            if ended == pid:
                return status

    def _has_children(self) -> bool:
        """Whether a child is left, the dead ones reaped."""
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return False
        return True

    def _end_leftovers(self) -> None:
        if self._childless_within(LEFTOVER_WAIT):
            return
        self._sweep(tree.terminate)
        wait = LEFTOVER_GRACE
        while not self._childless_within(wait):
            self._sweep(tree.kill)
            wait = 0.2

    def _sweep(self, end: tree.Sweep) -> None:
        if end is tree.kill and self._group is not None:
            self._group.kill()
        try:
            end(self._self)
        except OSError:
            # The system is short of something. Whoever is left is met in the next round.
            pass

    def _childless_within(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while self._has_children():
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            # SIGCHLD is blocked, so one that came before this call is waiting here.
            signal.sigtimedwait({signal.SIGCHLD}, left)
        return True

    # -- the daemon --------------------------------------------------------------------------

    def _tell(self, line: str) -> None:
        self._send(line.encode() + b"\n")

    def _report(
        self,
        kind: str,
        order: shim_protocol.Order,
        claim: AttemptClaim,
        end: Exit,
        before: bytes = b"",
    ) -> None:
        if kind == "E":
            self._leave_group()
        self._send(before + shim_protocol.encode_report(kind, order.token, claim.mono, end))

    def _send(self, data: bytes) -> None:
        try:
            self._channel.sendall(data)
        except OSError:
            # The daemon is gone. The slot says all there is to say.
            pass


def _describe(status: int) -> tuple[str, str]:
    """A wait status as what it is: ``exit 137`` and a SIGKILL are not the same."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        try:
            return "signal", signal.Signals(number).name
        except ValueError:
            return "signal", f"SIGRTMIN{number - signal.SIGRTMIN:+}"
    return "exit", str(os.WEXITSTATUS(status))


def run(channel: socket.socket, shared: Shared) -> NoReturn:
    """Be a shim: called in a fresh fork, never returns."""
    code = 1
    try:
        os.setsid()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
        os.umask(0o022)
        Shim(channel, shared).serve()
        code = 0
    finally:
        os._exit(code)
