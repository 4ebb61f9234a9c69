"""The start of a command: its logs, its folder, its process. Called by a shim, in the shim.

A start that could not be tried leaves nothing behind and may be tried again (``void``); one that
would fail every time is the attempt's end (``unrunnable``).
"""

from __future__ import annotations

import errno
import os

from runner.process import login
from runner.process.cgroup import Group
from runner.process.login import Login
from runner.process.shim_protocol import Environment, Order

_TRANSIENT = {
    errno.EAGAIN,
    errno.ENOMEM,
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EMFILE,
    errno.ENFILE,
    errno.EIO,
    errno.EINTR,
    errno.ESTALE,
    errno.ETXTBSY,
}
_NEW_LOG = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC


class Unstarted(Exception):
    """The command does not run: ``kind`` is ``void`` or ``unrunnable``, ``why`` is for people."""

    def __init__(self, kind: str, why: str) -> None:
        super().__init__(why)
        self.kind = kind
        self.why = why


def start_command(
    order: Order, environment: Environment, as_who: Login | None, group: Group | None
) -> int:
    """Run the command in a session of its own; its pid. Raises Unstarted.

    It inherits three descriptors and no signal that is blocked or ignored. ``as_who`` None: as
    what we are. ``group`` None: in ours.
    """
    made: list[tuple[int, bytes]] = []
    try:
        for path in (order.stdout, order.stderr):
            made.append((_open_log(path), path))
        return _start(order, environment, as_who, group, made[0][0], made[1][0])
    except Unstarted as refusal:
        if refusal.kind == "void":
            for _, path in made:
                _remove(path)
        raise
    finally:
        for fd, _ in made:
            os.close(fd)


def _open_log(path: bytes) -> int:
    try:
        return os.open(path, _NEW_LOG, 0o644)
    except FileNotFoundError:
        # Somebody tidied up.
        pass
    except OSError as error:
        raise _void_log(error, path) from None
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return os.open(path, _NEW_LOG, 0o644)
    except OSError as error:
        raise _void_log(error, path) from None


def _void_log(error: OSError, path: bytes) -> Unstarted:
    return Unstarted("void", f"{error.strerror}: {os.fsdecode(path)}")


def _remove(path: bytes) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass


def _start(
    order: Order,
    environment: Environment,
    as_who: Login | None,
    group: Group | None,
    out: int,
    err: int,
) -> int:
    arguments = (*order.shell, order.command)
    folder = login.Folder(order.cwd, order.make_cwd)
    try:
        if as_who is not None or group is not None:
            who = as_who or Login(None, plain_score=False)
            return login.start(who, folder, arguments, environment, out, err, group)
        _enter(folder)
        return _spawn(arguments, environment, out, err)
    except login.FolderError as error:
        name = os.fsdecode(order.cwd)
        if error.errno in _TRANSIENT:
            raise Unstarted("void", f"{error.strerror}: {name}") from None
        what = "does not exist" if error.errno == errno.ENOENT else f"({error.strerror})"
        raise Unstarted("unrunnable", f"working directory {name} {what}") from None
    except OSError as error:
        if error.errno in _TRANSIENT:
            raise Unstarted("void", f"{error.strerror}: {os.fsdecode(arguments[0])}") from None
        if error.errno == errno.E2BIG:
            why = "the command and its environment are too large for this system"
            raise Unstarted("unrunnable", f"command could not be run: {why}") from None
        why = f"{os.fsdecode(arguments[0])}: {error.strerror}"
        raise Unstarted("unrunnable", f"command could not be run: {why}") from None
    finally:
        os.chdir("/")


def _enter(folder: login.Folder) -> None:
    try:
        folder.enter()
    except OSError as error:
        raise login.FolderError(error.errno, error.strerror) from None


def _spawn(arguments: tuple[bytes, ...], environment: Environment, out: int, err: int) -> int:
    return os.posix_spawn(
        arguments[0],
        arguments,
        environment,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, out, 1),
            (os.POSIX_SPAWN_DUP2, err, 2),
        ],
        setsid=True,
        setsigmask=[],
        setsigdef=login.ALL_SIGNALS,
    )
