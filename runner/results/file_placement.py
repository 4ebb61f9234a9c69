"""How a file gets to its place in a folder: as a whole or not at all.

Owns temporaries, links and renames on byte paths. Must not know stores or keys.
"""

from __future__ import annotations

import errno
import itertools
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

from runner.results.escape import TEMPORARY
from runner.rights import Rights, acting_as

_TEMPORARY = TEMPORARY.encode()
_LEFTOVER = re.compile(re.escape(_TEMPORARY) + rb"([0-9]{1,18})-[0-9]+")
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC

_numbers = itertools.count()

T = TypeVar("T")


@contextmanager
def replacing(path: bytes, *, durable: bool, rights: Rights | None = None) -> Iterator[int]:
    """An empty file, open to read and write, that stands at `path` once the block has ended well.

    Missing folders are made. Otherwise nothing is left of it. `durable` syncs the file, not its
    folder. `rights`: whose file it is, made and put in place with no others; None: ours. The block
    runs with our own. Raises OSError, RightsError.
    """
    with acting_as(rights):
        temporary, fd = _at_new_name(path, lambda new: os.open(new, _NEW, 0o600))
    try:
        try:
            yield fd
            if durable:
                os.fsync(fd)
        finally:
            os.close(fd)
        with acting_as(rights):
            os.rename(temporary, path)
    except BaseException:
        with acting_as(rights), suppress(OSError):
            os.unlink(temporary)
        raise


def place_link(origin: bytes, path: bytes) -> None:
    """Make `path` one more name of the file `origin`. Raises OSError where that can't be done."""
    try:
        _with_folder(path, lambda: os.link(origin, path, follow_symlinks=False))
    except FileExistsError:
        if not os.path.samestat(os.lstat(origin), os.lstat(path)):
            _replace_by_link(origin, path)


def try_to_write(folder: bytes) -> None:
    """Make the folder, and a file in it, and remove the file. Raises OSError."""
    make_folders(folder)
    temporary, fd = _at_new_name(folder + b"/", lambda new: os.open(new, _NEW, 0o600))
    os.close(fd)
    os.unlink(temporary)


def temporary_name() -> bytes:
    """A name for an unfinished file that nothing of this process has."""
    return b"%b%d-%d" % (_TEMPORARY, os.getpid(), next(_numbers))


def remove_leftovers(folder: bytes, of: int | None = None) -> None:
    """Remove the unfinished files that ended processes, or the process `of`, left in a folder."""
    with suppress(OSError):
        fd = os.open(folder, _FOLDER)
        try:
            remove_leftovers_in(fd, of)
        finally:
            os.close(fd)


def remove_leftovers_in(folder: int, of: int | None = None) -> None:
    """The same in an open folder."""
    try:
        names = os.listdir(folder)
    except OSError:
        return
    for name in map(os.fsencode, names):
        if found := _LEFTOVER.fullmatch(name):
            pid = int(found[1])
            if pid == of or (of is None and not _is_there(pid)):
                with suppress(OSError):
                    os.unlink(name, dir_fd=folder)


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return pid > 0


def make_folders(folder: bytes) -> None:
    """Make a folder, and those above it that are missing, however many. Raises OSError.

    os.makedirs needs a stack frame for each.
    """
    missing = []
    while folder and not os.path.isdir(folder):
        missing.append(folder)
        folder = os.path.dirname(folder.rstrip(b"/"))
    for each in reversed(missing):
        with suppress(FileExistsError):
            os.mkdir(each)
    if missing and not os.path.isdir(missing[0]):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), missing[0])


def is_temporary(name: bytes) -> bool:
    """Whether a file called `name` is one that `replacing` didn't come to rename."""
    return name.startswith(_TEMPORARY)


def walk(top: bytes) -> Iterator[tuple[bytes, list[os.DirEntry[bytes]]]]:
    """Each folder with its regular files, parents first; links aren't followed."""
    pending = [top]
    while pending:
        folder = pending.pop()
        try:
            with os.scandir(folder) as entries:
                found = list(entries)
        except (FileNotFoundError, NotADirectoryError):
            continue
        pending += [entry.path for entry in found if entry.is_dir(follow_symlinks=False)]
        yield folder, [entry for entry in found if entry.is_file(follow_symlinks=False)]


def remove_if_empty(folder: bytes) -> bool:
    """Remove a folder, if nothing is in it; tells whether it is gone."""
    try:
        os.rmdir(folder)
    except OSError:
        return False
    return True


def _replace_by_link(origin: bytes, path: bytes) -> None:
    def link(new: bytes) -> None:
        os.link(origin, new, follow_symlinks=False)

    temporary, _ = _at_new_name(path, link)
    try:
        os.rename(temporary, path)
    finally:
        # rename(2) does nothing, and leaves both names, if they are links to one file.
        with suppress(FileNotFoundError):
            os.unlink(temporary)


def _at_new_name(path: bytes, make: Callable[[bytes], T]) -> tuple[bytes, T]:
    """Let `make` make a temporary in the folder of `path`, under a name that nothing has yet."""
    folder = os.path.dirname(path)
    while True:
        new = folder + b"/" + temporary_name()
        try:
            return new, _with_folder(new, lambda: make(new))  # noqa: B023 (called at once)
        except FileExistsError:
            continue  # of a killed process that had our pid


def _with_folder(path: bytes, make: Callable[[], T]) -> T:
    """Call `make`, which makes `path`; make its folder only when it turns out to be missing."""
    try:
        return make()
    except FileNotFoundError:
        make_folders(os.path.dirname(path))
        return make()
