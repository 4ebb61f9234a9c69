"""The user's code on its way to the machine: a folder packed on the laptop, laid out over there.

Owns which files go along, the archive's form, and that nothing of it lands outside of its folder.
"""

from __future__ import annotations

import gzip
import os
import shutil
import stat
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from runner.errors import RunnerError, UsageError

LIMIT = 1024**3
"""Bytes that a work folder may have before it is packed, unless another limit is given."""

MTIME = 315_532_800
"""Of every file in the archive: 1980, the first year that zip files know. The same folder gives the
same bytes, so it is sent once."""

LEFT_OUT = frozenset(
    {
        *(".git", ".hg", ".svn", ".venv", "venv", "node_modules", "__pycache__", ".DS_Store"),
        *(".mypy_cache", ".pytest_cache", ".ruff_cache", ".ipynb_checkpoints", ".tox"),
    }
)
"""Names that don't go along where git can't be asked."""

_LARGEST = 5
_CHUNK = 1 << 20

Progress = Callable[[int, int], None]
"""Told bytes packed so far, and bytes in all."""


def pack(
    folder: Path,
    limit: int,
    progress: Progress = lambda done, total: None,
    say: Callable[[str], None] = lambda text: None,
) -> Path:
    """Pack what git tracks plus what it doesn't ignore into a .tar.gz; its path, the caller's to
    remove.

    ``limit``: of the files' sizes, in bytes. ``say`` is told what a user would not expect. Raises
    UsageError for a folder that can't be shipped.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: there is no such folder")
    names = _chosen(folder, say)
    total = _check_size(folder, names, limit)
    descriptor, path = tempfile.mkstemp(prefix="runner-workdir-", suffix=".tar.gz")
    try:
        with open(descriptor, "wb") as file:
            # zlib's fastest: what is large here is seldom text.
            with gzip.GzipFile("", "wb", 1, file, mtime=0) as packed:
                _write(folder, names, packed, lambda done: progress(done, total))
    except BaseException:
        os.unlink(path)
        raise
    return Path(path)


# -- which files -----------------------------------------------------------------------------


def _chosen(folder: Path, say: Callable[[str], None]) -> list[str]:
    """Paths below the folder, sorted; files and links only. Raises UsageError."""
    names = _git_files(folder)
    if names is None:
        say(
            f"{folder} is in no git repository: all of it goes along, but for .git, .venv, "
            "node_modules, caches and the like"
        )
        names = set(_all_files(folder))
    kept = sorted(name for name in names if _goes_along(folder / name))
    if not kept:
        raise UsageError(f"{folder}: there is nothing to ship, or git ignores all of it")
    return kept


def _goes_along(path: Path) -> bool:
    """Not what is deleted but still tracked, and no sockets and the like."""
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return False
    return stat.S_ISREG(mode) or stat.S_ISLNK(mode)


def _git_files(folder: Path) -> set[str] | None:
    """None where git is not there, or knows nothing of the folder.

    Any other trouble of git's is an error: to ship all could be to ship what .gitignore keeps home.
    """
    words = ["git", "-C", str(folder), "ls-files", "-co", "--exclude-standard", "-z"]
    try:
        done = subprocess.run(
            words,
            capture_output=True,
            env={**os.environ, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
        )
    except FileNotFoundError:
        return None
    if done.returncode != 0:
        told = os.fsdecode(done.stderr).strip()
        if "not a git repository" in told:
            return None
        raise UsageError(f"{folder}: git can't say what belongs to it: {told}")
    found = set()
    for name in filter(None, os.fsdecode(done.stdout).split("\0")):
        # Of a submodule, or a repository in the repository, only the folder is told.
        inner = folder / name
        if inner.is_dir() and not inner.is_symlink():
            below = _git_files(inner)
            found |= {str(PurePosixPath(name, each)) for each in below or _all_files(inner)}
        else:
            found.add(name)
    return found


def _all_files(folder: Path) -> Iterator[str]:
    for where, folders, files in os.walk(folder):
        links = [name for name in folders if os.path.islink(os.path.join(where, name))]
        folders[:] = sorted(set(folders) - LEFT_OUT)
        for name in (*files, *links):
            if name not in LEFT_OUT:
                yield os.path.relpath(os.path.join(where, name), folder)


def _check_size(folder: Path, names: list[str], limit: int) -> int:
    sizes = {name: os.lstat(folder / name).st_size for name in names}
    total = sum(sizes.values())
    if total > limit:
        largest = sorted(names, key=lambda name: -sizes[name])[:_LARGEST]
        rows = "".join(f"\n  {_mib(sizes[name]):>9} MiB  {name}" for name in largest)
        raise UsageError(
            f"{folder} has {_mib(total)} MiB in {len(names)} files, and the limit is "
            f"{_mib(limit)} MiB; large data is better put into S3 and named in input_paths. The "
            f"largest:{rows}\nwhat .gitignore names stays here"
        )
    return total


def _mib(size: int) -> str:
    return f"{size / 1024**2:,.1f}"


# -- packing ---------------------------------------------------------------------------------


def _write(
    folder: Path, names: list[str], packed: gzip.GzipFile, done: Callable[[int], None]
) -> None:
    written = 0

    def copied(size: int) -> None:
        nonlocal written
        written += size
        done(written)

    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in names:
            path = folder / name
            entry = tarfile.TarInfo(name)
            entry.mtime = MTIME
            try:
                found = os.lstat(path)
                if stat.S_ISLNK(found.st_mode):
                    entry.type, entry.linkname = tarfile.SYMTYPE, os.readlink(path)
                    archive.addfile(entry)
                    copied(found.st_size)
                    continue
                with open(path, "rb") as file:
                    entry.size = os.fstat(file.fileno()).st_size
                    entry.mode = 0o755 if found.st_mode & stat.S_IXUSR else 0o644
                    archive.addfile(entry, _Told(file, copied))
            except OSError as error:
                raise UsageError(f"{path}: can't be packed: {error.strerror or error}") from None


class _Told:
    """A file whose reading is told."""

    def __init__(self, file: IO[bytes], copied: Callable[[int], None]) -> None:
        self._file = file
        self._copied = copied

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(min(size, _CHUNK) if size >= 0 else _CHUNK)
        self._copied(len(data))
        return data


# -- unpacking -------------------------------------------------------------------------------


def unpack(archive: IO[bytes], folder: Path) -> None:
    """Lay a packed work folder out in an empty folder. Raises RunnerError.

    Links come last: nothing is ever written through one, so nothing leaves the folder.
    """
    links: list[tuple[Path, str]] = []
    try:
        with tarfile.open(fileobj=archive, mode="r:gz") as packed:
            for entry in packed:
                target = folder / _inside(entry.name)
                target.parent.mkdir(parents=True, exist_ok=True)
                if entry.issym():
                    links.append((target, entry.linkname))
                elif entry.isdir():
                    target.mkdir(exist_ok=True)
                elif entry.isfile() and (content := packed.extractfile(entry)) is not None:
                    with open(target, "xb") as file:
                        shutil.copyfileobj(content, file, _CHUNK)
                        os.fchmod(file.fileno(), 0o755 if entry.mode & stat.S_IXUSR else 0o644)
                else:
                    raise RunnerError(f"{entry.name}: is neither a file nor a link")
        for target, leads_to in links:
            target.symlink_to(leads_to)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise RunnerError(f"the work folder can't be unpacked: {error}") from None


def _inside(name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise RunnerError(f"{name}: leads out of the work folder")
    return path
