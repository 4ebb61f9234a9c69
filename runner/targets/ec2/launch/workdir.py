"""The user's code on its way to the machine: a folder packed on the laptop, laid out over there.

Owns the archive's form, and that nothing of it lands outside of its folder. Which files go along is
choosing.py's.
"""

from __future__ import annotations

import gzip
import os
import shutil
import stat
import tarfile
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from typing import IO

from runner.errors import RunnerError, UsageError
from runner.results.contained_folder import Beneath
from runner.results.escape import shown
from runner.targets.ec2.launch.workdir_files import Choice, choose

LIMIT = 1024**3
"""Bytes that a work folder may have before it is packed, unless another limit is given."""

MTIME = 315_532_800
"""Of every file in the archive: 1980, the first year that zip files know. The same folder gives the
same bytes, so it is sent once."""

_LARGEST = 5
_CHUNK = 1 << 20

Progress = Callable[[int, int], None]
"""Told bytes packed so far, and bytes in all."""


def pack(
    folder: Path,
    limit: int,
    progress: Progress = lambda done, total: None,
    say: Callable[[Choice], None] = lambda choice: None,
    include: Iterable[str] = (),
) -> Path:
    """Pack what goes along of a folder into a .tar.gz; its path, the caller's to remove.

    ``limit``: of the files' sizes, in bytes. ``say`` is given the choice before anything is packed.
    ``include``: see ``choose``. Raises UsageError for a folder that can't be shipped.
    """
    choice = choose(folder, include)
    say(choice)
    _check_size(choice, limit)
    descriptor, path = tempfile.mkstemp(prefix="runner-workdir-", suffix=".tar.gz")
    try:
        with open(descriptor, "wb") as file:
            # zlib's fastest: what is large here is seldom text.
            with gzip.GzipFile("", "wb", 1, file, mtime=0) as packed:
                _write(choice, packed, lambda done: progress(done, choice.size))
    except BaseException:
        os.unlink(path)
        raise
    return Path(path)


def _check_size(choice: Choice, limit: int) -> None:
    if choice.size <= limit:
        return
    rows = "".join(
        f"\n  {mib(choice.files[path]):>9} MiB  {shown(path)}" for path in choice.largest(_LARGEST)
    )
    raise UsageError(
        f"{choice.folder} has {mib(choice.size)} MiB in {len(choice.files)} files, and the limit "
        f"is {mib(limit)} MiB; large data is better put into S3 and named in input_paths. The "
        f"largest:{rows}\nwhat .gitignore names stays here"
    )


def mib(size: int) -> str:
    """Bytes as MiB, for people."""
    return f"{size / 1024**2:,.1f}"


# -- packing ---------------------------------------------------------------------------------


def _write(choice: Choice, packed: gzip.GzipFile, done: Callable[[int], None]) -> None:
    written = 0

    def copied(size: int) -> None:
        nonlocal written
        written += size
        done(written)

    with (
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
        Beneath.open(os.fsencode(choice.folder)) as folder,
    ):
        for name in choice.files:
            try:
                _add(archive, folder, name, copied)
            except OSError as error:
                told = error.strerror or error
                raise UsageError(
                    f"{choice.folder}: {shown(name)} can't be packed: {told}"
                ) from None


def _add(
    archive: tarfile.TarFile, folder: Beneath, name: str, copied: Callable[[int], None]
) -> None:
    """One file or link, through no link: what was chosen may be another thing by now."""
    path = os.fsencode(name)
    entry = tarfile.TarInfo(name)
    entry.mtime = MTIME
    found = folder.lstat(path)
    if stat.S_ISLNK(found.st_mode):
        entry.type, entry.linkname = tarfile.SYMTYPE, os.fsdecode(folder.read_link(path))
        archive.addfile(entry)
        copied(found.st_size)
        return
    with open(folder.open_file(path), "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise OSError("it is no file any more")
        entry.size = found.st_size
        entry.mode = 0o755 if found.st_mode & stat.S_IXUSR else 0o644
        archive.addfile(entry, _Told(file, copied))


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
