"""The versions of runner that are unpacked, each in a folder of its own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from .files import sync
from .places import BUNDLE, VERSIONS, scripts
from .record import InstallRecord
from .system import running

_MAKING = ".making-"
_REMOVING = ".removing-"


def make_version(name: str) -> None:
    """An environment of its own with the wheels in it; it is there whole or not at all."""
    target = VERSIONS / name
    if target.exists():
        return
    making = VERSIONS / f"{_MAKING}{name}"
    library = (
        making / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    )
    library.mkdir(parents=True)
    (making / "bin").mkdir()
    home = Path(sys.executable).resolve().parent
    (making / "pyvenv.cfg").write_text(f"home = {home}\ninclude-system-site-packages = false\n")
    (making / "bin" / "python").symlink_to(Path(sys.executable).resolve())
    for wheel in sorted(filter(suits, (BUNDLE / "wheels").iterdir())):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(library)
    for script, entry in scripts().items():
        module, _, function = entry.partition(":")
        path = making / "bin" / script
        # -I: no PYTHONPATH, and no packages of the caller's, in what root starts.
        path.write_text(
            f"#!{target}/bin/python -I\nimport sys\n"
            f"from {module} import {function}\nsys.exit({function}())\n"
        )
        path.chmod(0o755)
    compile_all(library)
    os.sync()
    making.rename(target)
    sync(VERSIONS)


def suits(wheel: Path) -> bool:
    """Whether a wheel is for this Python: compiled ones are there once for each version."""
    tag = re.search(r"-cp3([0-9]+)-cp3", wheel.name)
    return tag is None or int(tag[1]) == sys.version_info[1]


def compile_all(library: Path) -> None:
    """Bytecode of our own package, so that the first start is as fast as any other."""
    words = [sys.executable, "-I", "-m", "compileall", "-q", str(library / "runner")]
    subprocess.run(words, check=True)


def sweep() -> None:
    """Remove what installations that were cut, or failed, have left half-made or half-removed."""
    if VERSIONS.is_dir():
        for folder in VERSIONS.iterdir():
            if folder.name.startswith((_MAKING, _REMOVING)):
                shutil.rmtree(folder)


def remove_old(record: InstallRecord, current: str) -> None:
    """Remove other versions, but for those that something runs from: shims of living jobs."""
    used = running()
    for key in list(record.things):
        version = Path(key)
        if version.parent == VERSIONS and version.name != current and key not in used:
            discard(version)
            record.forget([key])


def discard(version: Path) -> None:
    """Remove a version. It is gone at once: half of one would be taken for a whole by `install`."""
    if version.exists():
        shutil.rmtree(version.rename(VERSIONS / f"{_REMOVING}{version.name}"))
