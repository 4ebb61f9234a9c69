"""Builds ``runner-<version>-<arch>.tar.gz``: all that an installation needs, in one file.

The same source gives the same bytes: wheels are named with their sha256 in ``wheels.toml``, times
are the source's.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from runner.bundle.archives import make_tar_gz
from runner.bundle.deb import make_deb
from runner.bundle.source import SourceTree
from runner.bundle.wheels import make_wheel, sha256, wheels

_OWN = "runner/bundle/"
_UNITS = f"{_OWN}systemd/"


def build(source: SourceTree, arch: str, into: Path, *, deb: bool = False) -> Path:
    """Write the bundle, or the Debian package of it, for one architecture; its path.

    It is there whole or not at all. Raises RunnerError.
    """
    files = bundle_files(source, arch)
    if deb:
        name, data = make_deb(files, source.version, arch, source.time)
    else:
        stem = f"runner-{source.version}-{arch}"
        name, inside = f"{stem}.tar.gz", {f"{stem}/{path}": files[path] for path in files}
        data = make_tar_gz(inside, {f"{stem}/install.sh"}, source.time)
    into.mkdir(parents=True, exist_ok=True)
    target = into / name
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    beside.write_bytes(data)
    beside.rename(target)
    return target


def bundle_files(source: SourceTree, arch: str) -> dict[str, bytes]:
    """What is in the bundle, by its path there."""
    files = {f"wheels/{name}": data for name, data in wheels(arch).items()}
    name, data = _runner_wheel(source)
    files[f"wheels/{name}"] = data
    for path, data in source.files.items():
        if path.startswith(_UNITS):
            files[f"systemd/{path.removeprefix(_UNITS)}"] = data
        elif path == f"{_OWN}install.sh" or path.startswith(f"{_OWN}installer/"):
            files[path.removeprefix(_OWN)] = data
    files["VERSION"] = f"{source.version} {arch}\n".encode()
    sums = "".join(f"{sha256(data)}  {path}\n" for path, data in sorted(files.items()))
    files["SHA256SUMS"] = sums.encode()
    return files


def _runner_wheel(source: SourceTree) -> tuple[str, bytes]:
    """runner's own wheel; the version in it is the bundle's."""
    version = source.version
    files = dict(source.files)
    init = files["runner/__init__.py"].decode()
    line = f"__version__ = {json.dumps(version)}\n"
    told = re.sub(r"^__version__ = .*\n", lambda _: line, init, flags=re.MULTILINE)
    files["runner/__init__.py"] = told.encode()
    scripts = "".join(f"{name} = {target}\n" for name, target in source.scripts.items())
    return make_wheel(
        source.name.replace("-", "_"),
        version,
        files,
        {
            "METADATA": f"Metadata-Version: 2.1\nName: {source.name}\nVersion: {version}\n",
            "entry_points.txt": f"[console_scripts]\n{scripts}",
        },
    )
