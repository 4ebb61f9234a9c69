"""The bundle that a launch ships: a file that was given, or one built of the runner that runs here.

Built on first use, and kept in the cache folder under a hash of what it is made of.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

from runner.bundle.build import build
from runner.bundle.source import SourceTree, of_package
from runner.bundle.wheels import ARCHES, LOCK
from runner.errors import RunnerError, UsageError
from runner.store.paths import home_folder

_KEPT = 30 * 86_400.0
"""Seconds for which a built bundle that isn't used is kept."""


def bundle_file(given: str | None, arch: str, say: Callable[[str], None]) -> Path:
    """The bundle for an architecture (``x86_64``, ``aarch64``), given or built.

    The first build for an architecture fetches its wheels, some 30 MB, and takes a few seconds.
    Raises UsageError for a file that is no bundle for it, RunnerError where none can be built.
    """
    if arch not in ARCHES:
        raise UsageError(f"there is no bundle for {arch}: only for {' and '.join(ARCHES)}")
    if given is not None:
        return _checked(Path(os.path.expanduser(given)), arch)
    source = of_package()
    folder = _cache() / f"{arch}-{_made_of(source)}"
    built = sorted(folder.glob("runner-*.tar.gz"))
    if built:
        os.utime(folder)
        return built[0]
    say(f"building the bundle for {arch}, once (its parts are fetched if they aren't here yet)")
    try:
        path = build(source, arch, folder)
        _remove_old(folder)
    except OSError as error:
        raise RunnerError(
            f"the bundle can't be built: {error.filename}: {error.strerror}"
        ) from None
    except RunnerError as error:
        raise RunnerError(
            f"the bundle can't be built: {error}\ngive one with --bundle FILE or s3://bucket/key"
        ) from None
    return path


def _checked(path: Path, arch: str) -> Path:
    """Raise UsageError unless the file is a bundle for this architecture."""
    try:
        with tarfile.open(path, "r:gz") as archive:
            # In the order of the names it comes before the wheels: little is read.
            found = (each for each in archive if each.name.partition("/")[2] == "VERSION")
            version = next(found, None)
            content = archive.extractfile(version) if version is not None else None
            words = content.read(200).decode(errors="replace").split() if content else []
    except OSError as error:
        raise UsageError(f"--bundle {path}: {error.strerror or error}") from None
    except (tarfile.TarError, EOFError) as error:
        raise UsageError(f"--bundle {path}: is no bundle of runner ({error})") from None
    if len(words) != 2:
        raise UsageError(f"--bundle {path}: is no bundle of runner: there is no VERSION in it")
    if words[1] != arch:
        raise UsageError(f"--bundle {path}: is for {words[1]}, and the machine is {arch}")
    return path


def _cache() -> Path:
    cache, home = os.environ.get("XDG_CACHE_HOME", ""), home_folder(os.environ)
    if cache.startswith("/"):
        return Path(cache) / "runner" / "bundles"
    if home is None:
        told = "there is no home folder to keep bundles in: set HOME or XDG_CACHE_HOME"
        raise UsageError(f"{told}, or give one with --bundle")
    return home / ".cache" / "runner" / "bundles"


def _made_of(source: SourceTree) -> str:
    digest = hashlib.sha256(f"{source.version}\0{sorted(source.scripts.items())}\0".encode())
    for path, data in sorted(source.files.items()):
        digest.update(f"{path}\0{len(data)}\0".encode())
        digest.update(data)
    digest.update(LOCK.read_bytes())
    return digest.hexdigest()[:16]


def _remove_old(current: Path) -> None:
    """Of earlier versions; each is some 30 MB."""
    for folder in current.parent.iterdir():
        if folder != current and time.time() - folder.stat().st_mtime > _KEPT:
            for file in folder.iterdir():
                file.unlink(missing_ok=True)
            folder.rmdir()
