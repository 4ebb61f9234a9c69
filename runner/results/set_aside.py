"""Files that match a job's result patterns before it has made any: moved aside before an attempt.

Owns where they go: a hidden folder beside them, on the same disk, so that a move is a rename that
a kill can't leave half done. What was moved there before from the same place is replaced: a job
keeps one former version of each file, of what an earlier run left and of what an attempt of this
run left. The collector and all globs pass that folder by.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from runner.model.elements import path_of
from runner.results.patterns import ASIDE, PatternError, parse
from runner.results.upload.collect import collect
from runner.rights import Rights, acting_as

BEFORE, FAILED = "before", "failed"
"""The folders of what was there before the job, and of what an attempt of it had left."""

_IGNORED = b"*\n"
"""Nobody wants them in a repository."""


@dataclass(frozen=True, slots=True)
class AsideRequest:
    """What is to be moved aside for which job.

    ``patterns``: of its results, ``kept``: of what its attempts save for the next, which stays
    where it is but before the ``first``. ``own``: files and folders of ours, as real paths.
    ``rights``: with whose it is done; None: with ours.
    """

    job_id: str
    patterns: tuple[str, ...]
    working_directory: str
    kept: tuple[str, ...] = ()
    first: bool = True
    rights: Rights | None = None
    own: frozenset[str] = frozenset()


def set_aside(wanted: AsideRequest, check: Callable[[], None] = lambda: None) -> int:
    """Move what matches out of the way, durably; how many files. Repeating it does no harm.

    ``check`` is called before each move, and ends it by raising. Raises OSError with the file's
    name, RightsError.
    """
    kept = frozenset() if wanted.first else frozenset(_matches(wanted, wanted.kept))
    moved: dict[str, None] = {}
    count = 0
    for pattern in wanted.patterns:
        tops = _tops(wanted, pattern)
        for path in _matches(wanted, (pattern,)):
            if path in kept:
                continue
            check()
            folder = os.path.dirname(path)
            with acting_as(wanted.rights), suppress(FileNotFoundError):
                moved[_move(path, (*tops, folder), wanted)] = None
                moved[folder] = None
                count += 1
    with acting_as(wanted.rights):
        for folder in moved:
            _sync(folder)
    return count


def _matches(wanted: AsideRequest, patterns: tuple[str, ...]) -> Iterator[str]:
    """The matches, each by its folder's real path: so a file of two patterns is one."""
    found = collect(
        patterns,
        wanted.working_directory,
        optional=patterns,
        own=wanted.own,
        rights=wanted.rights,
    )
    for file in found.files:
        folder, name = os.path.split(file.path)
        with acting_as(wanted.rights):
            yield os.path.join(os.path.realpath(folder), name)


def _tops(wanted: AsideRequest, pattern: str) -> tuple[str, ...]:
    """The folders that a pattern's files may go aside in, the first that can be: the job's own,
    the fixed part of the pattern."""
    with acting_as(wanted.rights):
        try:
            fixed = parse(pattern, wanted.working_directory).folder
        except PatternError:
            return ()
        return os.path.realpath(wanted.working_directory), os.path.realpath(fixed)


def _move(path: str, tops: tuple[str, ...], wanted: AsideRequest) -> str:
    """Put the file away below the first of the folders that it is below, on its own disk; the
    folder that it is in now. Raises OSError."""
    disk = os.stat(os.path.dirname(path)).st_dev
    fault: OSError | None = None
    for top in tops:
        if not path.startswith(os.path.join(top, "")) or os.stat(top).st_dev != disk:
            continue
        aside = os.path.join(top, ASIDE)
        generation = BEFORE if wanted.first else FAILED
        inner = os.path.relpath(path, top)
        target = os.path.join(aside, path_of(wanted.job_id), generation, inner)
        try:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            _ignore(aside)
            os.replace(path, target)
        except PermissionError as error:
            fault = fault or error
        else:
            return os.path.dirname(target)
    assert fault is not None, "a file is below its own folder"
    raise fault


def _sync(folder: str) -> None:
    """Make its names survive a power cut: what comes back would be taken for the job's."""
    with suppress(FileNotFoundError, PermissionError):
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _ignore(aside: str) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with suppress(FileExistsError):
        fd = os.open(os.path.join(aside, ".gitignore"), flags, 0o644)
        try:
            os.write(fd, _IGNORED)
        finally:
            os.close(fd)
