"""Which files of a work folder go along, which stay on the laptop, and why.

Nothing is packed that isn't in a Choice, and what a user could miss is in it by name. A link is
never followed: neither a file that is one, nor a folder on the way.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from runner.errors import UsageError
from runner.results.escape import shown
from runner.targets.ec2.launch.git_files import has_repository, listed
from runner.targets.ec2.launch.secret_files import secret_in

NO_CODE = frozenset(
    {
        *(".git", ".hg", ".svn", ".venv", "venv", "node_modules", "__pycache__", ".DS_Store"),
        *(".mypy_cache", ".pytest_cache", ".ruff_cache", ".ipynb_checkpoints", ".tox"),
    }
)
"""Names that don't go along where git can't be asked."""

LONGEST = 3800
"""Bytes of a path: on the machine it is below another folder, and Linux takes 4,095 in all."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What stays here, by its path below the folder; a folder's ends with `/`."""

    path: str
    why: str


@dataclass(frozen=True, slots=True)
class Choice:
    """``files``: bytes by path below the folder, sorted; links and files only. ``git``: whether git
    said what belongs to it."""

    folder: Path
    files: Mapping[str, int]
    left_out: tuple[LeftOut, ...]
    git: bool

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(self.files.values())

    def largest(self, number: int) -> list[str]:
        """So many paths, the largest file first."""
        return sorted(self.files, key=lambda path: (-self.files[path], path))[:number]


def choose(folder: Path, include: Iterable[str] = ()) -> Choice:
    """What is to be shipped of a folder. ``include``: paths below it that go along in any case.

    Raises UsageError for a folder that can't be shipped, and for what can't be included.
    """
    if not folder.is_dir():
        raise UsageError(f"--workdir: {folder}: there is no such folder")
    chosen = _Chooser(folder)
    found = listed(folder)
    if found is not None:
        chosen.leave(found.absent, "a submodule that isn't checked out")
    for path in found.files if found is not None else chosen.walked():
        chosen.see(path)
    for path in include:
        chosen.include(path)
    if not chosen.files:
        why = f"; {len(chosen.left)} are left out" if chosen.left else ", or git ignores all of it"
        raise UsageError(f"{folder}: there is nothing to ship{why}")
    left = (LeftOut(path, chosen.left[path]) for path in sorted(chosen.left))
    return Choice(folder, dict(sorted(chosen.files.items())), tuple(left), found is not None)


class _Chooser:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._real = os.path.realpath(folder)
        self._links: dict[str, str | None] = {"": None}
        self.files: dict[str, int] = {}
        self.left: dict[str, str] = {}

    def leave(self, paths: Iterable[str], why: str) -> None:
        self.left |= dict.fromkeys(paths, why)

    def see(self, path: str) -> None:
        """Take a file, or leave it out; what isn't there (any more) is neither."""
        if (link := self._link_on_the_way(path)) is not None:
            self.left[path] = f"behind the link {shown(link)}"
            return
        if (found := self._lstat(path)) is None or stat.S_ISDIR(found.st_mode):
            return  # git tracks what was there once
        why = self._against(path, found)
        if why is not None:
            self.left[path] = why
            return
        self._take(path, found)

    def include(self, given: str) -> None:
        """Take a file that was named. Raises UsageError."""
        told = f"--include: {shown(given)}"
        path = os.path.normpath(given)
        if given == "" or os.path.isabs(path) or path.split("/")[0] in (".", ".."):
            raise UsageError(f"{told} is no path below {self._folder}")
        if (link := self._link_on_the_way(path)) is not None:
            raise UsageError(f"{told} is behind the link {shown(link)}: links aren't followed")
        found = self._lstat(path)
        if found is None:
            raise UsageError(f"{told}: there is no such file below {self._folder}")
        if stat.S_ISDIR(found.st_mode):
            raise UsageError(f"{told} is a folder: name its files")
        if not (stat.S_ISREG(found.st_mode) or stat.S_ISLNK(found.st_mode)):
            raise UsageError(f"{told} is {_SPECIAL}")
        self.left.pop(path, None)
        self._take(path, found)

    def walked(self) -> Iterator[str]:
        """All paths of a folder that is in no repository; a repository below it asks git."""
        for where, folders, files in os.walk(self._folder, onerror=self._unseen):
            here = os.path.relpath(where, self._folder)
            here = "" if here == "." else f"{here}/"
            for name in [*files, *folders]:
                link = os.path.islink(os.path.join(where, name))
                if name in NO_CODE:
                    self.left[here + name + ("/" if name in folders and not link else "")] = _CACHE
                elif name in files or link:
                    yield here + name
            folders[:] = sorted(name for name in folders if name not in NO_CODE)
            for name in [each for each in folders if has_repository(Path(where, each))]:
                folders.remove(name)
                below = listed(Path(where, name))
                assert below is not None, "git says so of none that has a .git"
                yield from (f"{here}{name}/{path}" for path in below.files)
                absent = (f"{here}{name}/{path}" for path in below.absent)
                self.leave(absent, "a submodule that isn't checked out")

    def _unseen(self, error: OSError) -> None:
        raise UsageError(f"{error.filename}: can't be looked at: {error.strerror}") from None

    def _take(self, path: str, found: os.stat_result) -> None:
        if len(os.fsencode(path)) > LONGEST:
            raise UsageError(f"{shown(path)}: is longer than {LONGEST:,} bytes: move it up")
        self.files[path] = found.st_size

    def _lstat(self, path: str) -> os.stat_result | None:
        try:
            return os.lstat(self._folder / path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            told = error.strerror or error
            raise UsageError(f"{self._folder}: {shown(path)}: can't be looked at: {told}") from None

    def _link_on_the_way(self, path: str) -> str | None:
        """The first folder of the path that is a link."""
        above = os.path.dirname(path)
        if above not in self._links:
            link = self._link_on_the_way(above)
            if link is None and os.path.islink(self._folder / above):
                link = above
            self._links[above] = link
        return self._links[above]

    def _against(self, path: str, found: os.stat_result) -> str | None:
        """Why a file stays here."""
        if (what := secret_in(path)) is not None:
            return what
        if stat.S_ISLNK(found.st_mode):
            return self._against_link(path)
        return None if stat.S_ISREG(found.st_mode) else _SPECIAL

    def _against_link(self, path: str) -> str | None:
        target = os.readlink(self._folder / path)
        told = f"a link to {shown(target)}"
        if os.path.isabs(target):
            return f"{told}, which is another place on the machine"
        meant = os.path.normpath(os.path.join(os.path.dirname(path), target))
        real = os.path.realpath(self._folder / path)
        if meant.split("/")[0] == ".." or not _is_below(real, self._real):
            return f"{told}, outside of the folder"
        return None


def _is_below(path: str, folder: str) -> bool:
    return os.path.commonpath([path, folder]) == folder


_CACHE = "no code, as a rule: a repository's .gitignore would say"
_SPECIAL = "neither a file nor a link"
