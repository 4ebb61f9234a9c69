"""What runner itself consists of: the files of a commit, or of the package that is installed.

All that a bundle is made of is in the package, the units included, so both give the same paths.
"""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class SourceTree:
    """``files`` by their path; ``scripts``: console scripts; ``time``: of the files, seconds since
    1970."""

    files: Mapping[str, bytes]
    name: str
    version: str
    scripts: Mapping[str, str]
    time: int


def of_commit(repository: Path, version: str | None = None) -> SourceTree:
    """What is committed, or the tree where there is no repository; ``version`` for another one."""
    files = _committed(repository)
    project = tomllib.loads(files["pyproject.toml"].decode())["project"]
    kept = {path: data for path, data in files.items() if path.startswith("runner/")}
    told = version or _version(repository, files)
    return SourceTree(kept, project["name"], told, project["scripts"], _commit_time(repository))


def of_package() -> SourceTree:
    """What runs here, as it is."""
    from importlib.metadata import distribution

    from runner import __version__

    found = {
        f"runner/{path.relative_to(PACKAGE).as_posix()}": path.read_bytes()
        for path in sorted(PACKAGE.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }
    about = distribution("queue-runner")
    points = about.entry_points.select(group="console_scripts")
    scripts = {point.name: point.value for point in points}
    return SourceTree(found, "queue-runner", __version__, scripts, 0)


def _git(repository: Path, *words: str) -> bytes:
    return subprocess.run(["git", "-C", str(repository), *words], check=True, stdout=-1).stdout


def _committed(repository: Path) -> dict[str, bytes]:
    if not (repository / ".git").exists():
        paths = (repository / "runner").rglob("*")
        kept = [path for path in paths if path.is_file() and path.suffix != ".pyc"]
        kept.append(repository / "pyproject.toml")
        return {path.relative_to(repository).as_posix(): path.read_bytes() for path in kept}
    with tarfile.open(fileobj=io.BytesIO(_git(repository, "archive", "HEAD"))) as archive:
        found = {}
        for entry in archive:
            if entry.isfile() and (data := archive.extractfile(entry)) is not None:
                found[entry.name] = data.read()
        return found


def _commit_time(repository: Path) -> int:
    if (told := os.environ.get("SOURCE_DATE_EPOCH")) or not (repository / ".git").exists():
        return int(told or 0)
    return int(_git(repository, "show", "-s", "--format=%ct", "HEAD"))


def _version(repository: Path, files: Mapping[str, bytes]) -> str:
    """The number in the code; with the commit, if that isn't tagged as this version."""
    init = files["runner/__init__.py"].decode()
    number = init.partition('__version__ = "')[2].partition('"')[0]
    if not (repository / ".git").exists():
        return number
    tags = _git(repository, "tag", "--points-at", "HEAD").decode().split()
    commit = _git(repository, "rev-parse", "--short=12", "HEAD").decode().strip()
    return number if f"v{number}" in tags else f"{number}+g{commit}"
