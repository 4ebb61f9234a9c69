"""A command's process where posix_spawn(2) can't make it: of another user, score or control group.

Owns what happens between fork(2) and execve(2). The shim imports this: standard library only, and
little of it.
"""

from __future__ import annotations

import os
import signal
from typing import NamedTuple, NoReturn

from runner.process.cgroup import Group
from runner.process.shim_protocol import Environment, User

_OOM_SCORE = "/proc/self/oom_score_adj"
ALL_SIGNALS = [s for s in signal.valid_signals() if s not in (signal.SIGKILL, signal.SIGSTOP)]


class Login(NamedTuple):
    """What a command is given that its shim isn't.

    ``user`` None: it is the shim's own. ``plain_score``: of what the daemon was given as an
    oom_score_adj nothing is left; a login has 0.
    """

    user: User | None
    plain_score: bool


class Folder(NamedTuple):
    """Where a command begins; ``make``: the folder is made where there is none."""

    path: bytes
    make: bool = False

    def enter(self) -> None:
        """Go there, with the rights of who asks. Raises OSError."""
        try:
            os.chdir(self.path)
        except FileNotFoundError:
            if not self.make:
                raise
            os.makedirs(self.path, exist_ok=True)
            os.chdir(self.path)


class FolderError(OSError):
    """The command's folder can't be entered, by this user."""


def login_for(user: User | None) -> Login | None:
    """None where a command has all that a login has by being the shim's child."""
    with open(_OOM_SCORE, encoding="ascii") as file:
        plain_score = int(file.read()) != 0
    return Login(user, plain_score) if user or plain_score else None


def start(
    login: Login,
    folder: Folder,
    arguments: tuple[bytes, ...],
    environment: Environment,
    out: int,
    err: int,
    group: Group | None = None,
) -> int:
    """Run a program in a session of its own, with nothing but three descriptors; its pid.

    It has no capabilities and no set of groups but the user's, and begins in its control group.
    Raises FolderError, or OSError for anything else that the system refuses.
    """
    told, tell = os.pipe2(os.O_CLOEXEC)
    # What is sent to the program before it is one must wait for it: a shim ignores it.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ALL_SIGNALS)
    try:
        pid = os.fork() if group is None else group.fork()
        if pid == 0:
            _run(login, folder, arguments, environment, out, err, tell)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        os.close(tell)
        # Empty once the program runs: its end of the pipe was closed by that.
        trouble = _all_of(told)
    if not trouble:
        return pid
    os.waitpid(pid, 0)
    kind, _, number = trouble.partition(b" ")
    raised = FolderError if kind == b"folder" else OSError
    raise raised(int(number), os.strerror(int(number)))


def _all_of(fd: int) -> bytes:
    try:
        return os.read(fd, 64)
    finally:
        os.close(fd)


def _run(
    login: Login,
    folder: Folder,
    arguments: tuple[bytes, ...],
    environment: Environment,
    out: int,
    err: int,
    tell: int,
) -> NoReturn:
    """In the child: become what is wanted, and the program. Tells of what can't be done."""
    at = b"process"
    try:
        os.setsid()
        if login.plain_score:
            _write_score()
        if login.user is not None:
            _become(login.user)
        at = b"folder"
        folder.enter()
        at = b"process"
        null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        for fd, number in ((null, 0), (out, 1), (err, 2)):
            os.dup2(fd, number)
        for number in ALL_SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.execve(arguments[0], arguments, environment)
    except OSError as error:
        os.write(tell, b"%b %d" % (at, error.errno or 0))
    finally:
        os._exit(127)


def _write_score() -> None:
    """Only root may lower it, so before anything else is given away."""
    fd = os.open(_OOM_SCORE, os.O_WRONLY | os.O_CLOEXEC)
    os.write(fd, b"0")
    os.close(fd)


def _become(user: User) -> None:
    """For good: with all three ids the kernel drops every capability (capabilities(7))."""
    os.setgroups(user.groups)
    os.setresgid(user.gid, user.gid, user.gid)
    os.setresuid(user.uid, user.uid, user.uid)
