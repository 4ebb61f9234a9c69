"""What git says belongs to a folder: what it tracks, and what it neither tracks nor ignores.

A repository below another one goes by its own rules, as git itself has it. Owns the calls of git,
and what its refusals mean: where git can't be asked, nobody may take all files instead.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from runner.errors import UsageError

_NO_REPOSITORY = "not a git repository (or any"
"""So git begins when it has looked in the folder and in all above it. Of a `.git` that is there and
broken it says otherwise."""

_PLACES = (
    *("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_COMMON_DIR"),
    *("GIT_NAMESPACE", "GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES"),
)
"""Variables that name another repository than the folder's: a hook of git's has them."""

_SUBMODULE = "160000"
"""The mode of a gitlink (git-ls-files, "--stage")."""


@dataclass(slots=True)
class Listed:
    """Paths below the folder. ``absent``: submodules that aren't checked out."""

    files: set[str] = field(default_factory=set)
    absent: set[str] = field(default_factory=set)


def listed(folder: Path) -> Listed | None:
    """None for a folder in no repository.

    What git lists may be gone, or be no file any more. Raises UsageError where there is a
    repository and git can't say: to ship all could be to ship what .gitignore keeps home.
    """
    tracked = _ask(folder, "--stage")
    if tracked is None:
        return None
    found, inner = Listed(), set()
    for entry in tracked:
        about, _, name = entry.partition("\t")
        if about.startswith(_SUBMODULE):
            inner.add(name)
        else:
            found.files.add(name)
    for name in _ask(folder, "--others", "--exclude-standard") or ():
        # Of a repository in the repository only the folder is told.
        if name.endswith("/"):
            inner.add(name.rstrip("/"))
        else:
            found.files.add(name)
    for name in inner:
        _add(found, folder, name)
    return found


def has_repository(folder: Path) -> bool:
    """Whether one begins here, whole or broken."""
    return os.path.lexists(folder / ".git")


def _add(found: Listed, folder: Path, name: str) -> None:
    """What belongs to a repository, or should belong to a submodule, at ``name``."""
    place = folder / name
    if place.is_symlink():
        found.files.add(name)
        return
    if not has_repository(place):
        if place.is_dir():
            found.absent.add(name)
        return
    below = listed(place) or Listed()
    found.files |= {str(PurePosixPath(name, each)) for each in below.files}
    found.absent |= {str(PurePosixPath(name, each)) for each in below.absent}


def _ask(folder: Path, *words: str) -> list[str] | None:
    """What `git ls-files` says; None where the folder is in no repository."""
    own = {name: value for name, value in os.environ.items() if name not in _PLACES}
    # A repository's own settings may name a program to ask about changes: it isn't to be run.
    git = ["git", "-C", str(folder), "-c", "core.fsmonitor=false", "ls-files", "-z", *words]
    try:
        done = subprocess.run(
            git, capture_output=True, env={**own, "LC_ALL": "C"}, stdin=subprocess.DEVNULL
        )
    except FileNotFoundError:
        inside = [each for each in (folder, *folder.absolute().parents) if has_repository(each)]
        if not inside:
            return None
        raise UsageError(
            f"{folder}: {inside[0]} is a git repository, and there is no git here to say what "
            "belongs to it: install git"
        ) from None
    told = os.fsdecode(done.stderr).strip()
    # Git goes on without a folder that it may not read.
    if done.returncode != 0 or "could not open directory" in told:
        if _NO_REPOSITORY in told and not has_repository(folder):
            return None
        raise UsageError(f"{folder}: git can't say what belongs to it: {told}")
    return [name for name in os.fsdecode(done.stdout).split("\0") if name]
