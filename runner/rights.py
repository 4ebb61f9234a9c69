"""Whose rights decide what one thread may do with files.

A daemon that is root touches jobs' files on their behalf: what the job's user may not read, write
or search isn't read, written or searched for it either, whatever a path turns out to lead to.
Linux keeps these rights per thread (credentials(7)); libc only hides that for some calls. Owns the
raw calls, and that they are taken back. It must not know what is done with the files.
"""

from __future__ import annotations

import ctypes
import os
import signal
from typing import NamedTuple

from runner.errors import RunnerError

_SETGROUPS = {"x86_64": 116, "aarch64": 159}
"""The number of setgroups(2). glibc's own function changes every thread of the process."""

_ASK = -1
"""As an id, for setfsuid(2) and setfsgid(2): it changes nothing, and tells what there is."""

_libc = ctypes.CDLL(None, use_errno=True)
# Elsewhere than on Linux there are none, and nobody whose rights could be taken.
for _name in ("setfsuid", "setfsgid"):
    if _call := getattr(_libc, _name, None):
        _call.argtypes = (ctypes.c_uint32,)
        _call.restype = ctypes.c_uint32


class Rights(NamedTuple):
    """A user as the kernel knows one; ``groups`` are all of them, the first one included."""

    uid: int
    gid: int
    groups: tuple[int, ...]


class RightsError(RunnerError):
    """A thread could not be given a user's rights. Nothing was done in the meantime."""


class acting_as:  # noqa: N801 (a block, as suppress is)
    """For a block, this thread meets files with a user's rights; None: with our own.

    Only root can. The capabilities that override permissions are gone for as long, those to come
    back stay. To be held around single calls: a thread or process that is begun inside keeps the
    rights for good, and what is opened inside stays open to us afterwards. Raises RightsError. A
    thread that can't be given back its own rights must do nothing any more: the process is killed.
    """

    __slots__ = ("_former", "_rights")

    def __init__(self, rights: Rights | None) -> None:
        self._rights = rights

    def __enter__(self) -> None:
        if self._rights is None:
            return
        self._former = _current()
        try:
            _take(self._rights)
        except BaseException:
            _give_back(self._former)
            raise

    def __exit__(self, *_: object) -> None:
        if self._rights is not None:
            _give_back(self._former)


def _current() -> Rights:
    return Rights(_libc.setfsuid(_ASK), _libc.setfsgid(_ASK), tuple(os.getgroups()))


def _take(rights: Rights) -> None:
    """The user last: with it goes the right to choose groups that aren't the user's."""
    _set_groups(rights.groups)
    _set(_libc.setfsgid, rights.gid)
    _set(_libc.setfsuid, rights.uid)


def _give_back(former: Rights) -> None:
    try:
        _set(_libc.setfsuid, former.uid)
        _set(_libc.setfsgid, former.gid)
        _set_groups(former.groups)
    except BaseException:
        if _current() != former:
            os.kill(os.getpid(), signal.SIGKILL)
        raise


def _set(call: ctypes._NamedFuncPointer, number: int) -> None:
    """These calls return the former id, whether they worked or not."""
    call(number)
    if call(_ASK) != number:
        raise RightsError(f"{call.__name__}({number}) was refused: only root acts as another user")


def _set_groups(groups: tuple[int, ...]) -> None:
    number = _SETGROUPS.get(machine := os.uname().machine)
    if number is None:
        raise RightsError(f"on {machine} jobs can't have another user than the daemon's")
    array = (ctypes.c_uint32 * len(groups))(*groups)
    if _libc.syscall(number, len(groups), array) != 0:
        why = os.strerror(ctypes.get_errno())
        raise RightsError(f"the groups of a job's user can't be taken: {why}")
