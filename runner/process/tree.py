"""A process tree and how it is ended whole. Standard library only: the shim imports it.

The tree of an attempt is what descends from its shim: a subreaper, so that daemonised
grandchildren stay below it. When the shim itself was killed, its orphans are found below its
forker (a subreaper too, which stays as long as there are any), by the session of the command and
by the token in their environment.
"""

from __future__ import annotations

import os
import select
import signal
import time
from _thread import allocate_lock  # threading costs the forker's start 2 ms
from collections.abc import Callable
from typing import NamedTuple

from runner.process.cgroup import Group
from runner.process.identity import (
    FORKER_NAME,
    Process,
    is_shim,
    named_fields,
    open_process,
    start_time,
    users_of,
)
from runner.process.shim_protocol import User

Sweep = Callable[[Process], int]
"""Ends what is below a shim; returns how many there were."""

TOKEN_VARIABLE = "RUNNER_ATTEMPT_TOKEN"

MAX_ROUNDS = 50
"""How often one call looks for what was forked meanwhile; its caller calls again at need."""

DIES_WITHIN = 5.0
"""Seconds that a killed process is waited for; longer than that only the kernel keeps one."""


BLANK_FOR = 2.0
LOOK_AGAIN_AFTER = 0.002
"""Seconds that a process between two programs is given to show whose it is, and between looks."""

_KERNEL_THREAD = 0x00200000  # PF_KTHREAD in <linux/sched.h>


class _Entry(NamedTuple):
    parent: int
    session: int
    process: Process
    kernel: bool
    forker: bool


class _Table:
    """One look at all processes that are not dead, by pid.

    It is not one moment: who forks and ends between the listing and its own turn is not in it, and
    neither is its child. ``before``: what is listed there already is passed over.
    """

    def __init__(self, before: _Table | None = None) -> None:
        self.entries: dict[int, _Entry] = {}
        self.listed: set[int] = set()
        self._children: dict[int, list[int]] = {}
        for name in os.listdir("/proc"):
            if not name.isdigit() or (before is not None and int(name) in before.listed):
                continue
            self.listed.add(int(name))
            if (found := named_fields(name)) is None:
                continue
            called, fields = found
            if fields[0] not in "ZX":
                pid, parent = int(name), int(fields[1])
                kernel = bool(int(fields[6]) & _KERNEL_THREAD)
                process = Process(pid, int(fields[19]))
                forker = called == FORKER_NAME
                self.entries[pid] = _Entry(parent, int(fields[3]), process, kernel, forker)
                self._children.setdefault(parent, []).append(pid)

    def joined(self, newer: _Table) -> _Table:
        """This one and what has turned up since."""
        both = _Table.__new__(_Table)
        both.entries = {**self.entries, **newer.entries}
        both.listed = self.listed | newer.listed
        both._children = {pid: [*below] for pid, below in self._children.items()}
        for pid, below in newer._children.items():
            both._children.setdefault(pid, []).extend(below)
        return both

    def tree(self, roots: list[int]) -> list[Process]:
        """Those and all below them, parents before their children."""
        members: dict[int, Process] = {}
        todo = roots[::-1]
        while todo:
            pid = todo.pop()
            if pid not in members:
                members[pid] = self.entries[pid].process
                todo.extend(self._children.get(pid, ()))
        return list(members.values())


class _Looks:
    """Tables for many threads: all that wait for one share the next that begins.

    To end a thousand trees at once would else be a thousand looks at thousands of processes.
    """

    def __init__(self) -> None:
        self._lock = allocate_lock()
        self._begun = 0
        self._table: _Table | None = None

    def take(self) -> _Table:
        """A table of a look that began after this call."""
        wanted = self._begun + 1
        with self._lock:
            if self._table is None or self._begun < wanted:
                self._table = None
                self._begun += 1
                self._table = _Table()
            return self._table


_looks = _Looks()


def descendants(root: Process) -> list[Process]:
    """Every living process below ``root``, itself not included; none if it is gone.

    Parents come before their children: a shell that outlives its child begins the next command.
    A tree that holds whoever asks is not an attempt's, whatever the caller believes: it has none.
    """
    table = _looks.take()
    entry = table.entries.get(root.pid)
    if entry is None or entry.process != root:
        return []
    below = table.tree([root.pid])[1:]
    return [] if any(process.pid == os.getpid() for process in below) else below


class LostTree(NamedTuple):
    """What is known of an attempt whose shim is dead.

    ``mark`` is that of the record file. All that a forker of this file has adopted, this daemon's
    or one that stayed from before, belongs to dead shims. ``makers``: whose processes the token is
    believed of; None: anybody's. ``group``: its control group, if it may have one.
    """

    token: str
    command: Process | None
    mark: str
    makers: frozenset[int] | None
    group: Group | None = None


def makers(user: User | None) -> frozenset[int] | None:
    """Whose processes a job of this user can have made: no other can be meant to end with it.

    Its own, and root's by a set-user-ID program; a job of root's, anybody's.
    """
    own = os.geteuid()
    if user is None:
        return frozenset({own}) if own else None
    return frozenset({own, user.uid})


def orphans(lost: LostTree) -> list[Process]:
    """What is left of an attempt whose shim is dead.

    The command's session is believed only while its pid has not been given to another: the kernel
    keeps a number reserved as long as a session bears it.

    Nobody is missed who lives at the last listing: each that it names has been looked at itself.
    """
    deadline = time.monotonic() + BLANK_FOR
    while True:
        table = _looks.take()
        mine, blank = _roots(table, lost, table)
        # Whoever was listed may have forked, and ended, before it was asked whose it is. Our own
        # among the new ones come first: until the caller has stopped them they go on forking.
        found: list[int] = []
        while not found and (newer := _Table(table)).listed and time.monotonic() <= deadline:
            table = table.joined(newer)
            found, unclear = _roots(newer, lost, table)
            mine += found
            blank |= unclear
        if not blank or time.monotonic() > deadline:
            return [member for member in table.tree(mine) if member.pid != os.getpid()]
        time.sleep(LOOK_AGAIN_AFTER)  # reason: of another process's exec nobody is told


def _roots(some: _Table, lost: LostTree, table: _Table) -> tuple[list[int], bool]:
    """Who among some of the table is the attempt's for sure; and whether some can't be told yet."""
    session = lost.command.pid if lost.command else None
    holder = table.entries.get(session) if session is not None else None
    if holder is not None and holder.process != lost.command:
        session = None
    forkers = {
        pid
        for pid, entry in table.entries.items()
        if entry.forker and is_shim(entry.process, lost.mark)
    }
    mark = f"{TOKEN_VARIABLE}={lost.token}".encode()
    mine = []
    blank = False
    for pid, entry in some.entries.items():
        if entry.kernel:
            continue
        carries = _carries(pid, mark)
        if (
            (carries and (lost.makers is None or lost.makers & users_of(pid)))
            or (session is not None and entry.session == session)
            or (entry.parent in forkers and not is_shim(entry.process, lost.mark))
        ):
            mine.append(pid)
        elif carries is None and start_time(pid) == entry.process.start:
            blank = True
    return mine, blank


def _carries(pid: int, mark: bytes) -> bool | None:
    """Whether the process has it in its environment; None if that can't be told yet.

    In the midst of execve(2) a process has neither environment nor command line: exactly when its
    copy of a dead shim's socket is closed, which is what calls for this. It gets both at once.
    """
    environment = _told_by(pid, "environ")
    if environment == b"":
        blank = _told_by(pid, "cmdline") == b""
        environment = _told_by(pid, "environ")
        if blank and environment == b"":
            return None
    return environment is not None and mark in environment.split(b"\0")


def _told_by(pid: int, name: str) -> bytes | None:
    """What /proc tells of a process; None of one that is gone, or not ours to ask."""
    try:
        with open(f"/proc/{pid}/{name}", "rb") as file:
            return file.read()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None


def send(process: Process, *signals: int) -> bool:
    """Signal this very process; False when it is gone, or a stranger has its pid, or it isn't ours.

    Raises OSError when there is no descriptor left to be sure of whom it would meet.
    """
    fd = open_process(process)
    if fd is None:
        return False
    try:
        for number in signals:
            signal.pidfd_send_signal(fd, number)
        return True
    except (ProcessLookupError, PermissionError):
        return False
    finally:
        os.close(fd)


def terminate(shim: Process) -> int:
    """SIGTERM, once, to every process below the shim; returns how many there were.

    SIGCONT follows, so that a stopped one can act on it. What is started after that isn't told: it
    is what a trap begins to save its work with.
    """
    there = frozenset(descendants(shim))
    begun = time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK")

    def those_there() -> list[Process]:
        return [each for each in descendants(shim) if each in there or each.start < int(begun)]

    def tell(process: Process) -> None:
        send(process, signal.SIGTERM, signal.SIGCONT)

    return len(_each(those_there, tell))


def kill(shim: Process) -> int:
    """SIGKILL to every process below the shim; returns how many there were."""
    return len(_kill_all(lambda: descendants(shim)))


def kill_orphans(lost: LostTree) -> int:
    """SIGKILL to all that is left of an attempt whose shim is dead; returns how many.

    They have ended when it returns: nobody else waits for them before the next attempt starts.
    """
    # All that the group holds is the attempt's, so nothing has to be found, and nothing escapes.
    in_group = lost.group is not None and not lost.group.is_empty()
    if lost.group is not None:
        lost.group.end()
    killed = _kill_all(lambda: orphans(lost))
    deadline = time.monotonic() + DIES_WITHIN
    for process in killed:
        _wait_for(process, deadline)
    return len(killed) + in_group


def _wait_for(process: Process, deadline: float) -> None:
    fd = open_process(process)
    if fd is None:
        return
    try:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
    finally:
        os.close(fd)


def _kill_all(find: Callable[[], list[Process]]) -> list[Process]:
    """Stop until nobody new turns up, then kill: what is stopped can't fork itself away."""
    stopped = _each(find, lambda process: send(process, signal.SIGSTOP))
    for process in stopped:
        send(process, signal.SIGKILL)
    return stopped


def _each(find: Callable[[], list[Process]], do: Callable[[Process], object]) -> list[Process]:
    """``do`` once to each that is found, until nobody new turns up; all of them."""
    done: dict[Process, None] = {}
    for _ in range(MAX_ROUNDS):
        fresh = [process for process in find() if process not in done]
        if not fresh:
            break
        for process in fresh:
            do(process)
            done[process] = None
    return list(done)
