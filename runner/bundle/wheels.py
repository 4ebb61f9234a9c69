"""The wheels of a bundle: locked with their hashes in ``wheels.toml``, fetched once into a cache.

With a full cache no network is needed. A package that is published as source only is made into a
wheel here, as runner itself is.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from runner.errors import RunnerError

LOCK = Path(__file__).with_name("wheels.toml")
ARCHES = ("x86_64", "aarch64")
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
# Amazon Linux 2023 has glibc 2.34, Ubuntu 22.04 2.35.
MANYLINUX = ("manylinux2014", "manylinux_2_17", "manylinux_2_28")
# Published as source only; it is one module, of which we make the wheel.
SOURCE_ONLY = ("sdnotify",)


def cache() -> Path:
    """Where fetched files are kept. Raises RunnerError where there is no home folder."""
    folder = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    if not folder.startswith("/"):
        raise RunnerError(f"{folder} is no folder for what is fetched: set HOME or XDG_CACHE_HOME")
    return Path(folder) / "runner-bundle"


def wheels(arch: str) -> dict[str, bytes]:
    """The locked wheels for an architecture, from the cache or fetched; each is what was locked.

    Raises RunnerError.
    """
    found = {}
    for entry in tomllib.loads(LOCK.read_text())["wheel"]:
        if entry["arch"] not in (arch, "any"):
            continue
        path = cache() / entry["file"]
        if not path.exists():
            wanted = f"{entry['name']}=={entry['version']}"
            fetch(cache(), wanted, arch, _python_of(path.name), "--no-deps")
        data = path.read_bytes() if path.exists() else b""
        if sha256(data) != entry["sha256"]:
            raise RunnerError(
                f"{path} isn't the file that {LOCK.name} names; remove it, and try again"
            )
        if path.suffix == ".whl":
            found[path.name] = data
        else:
            name, made = _from_source(entry["name"], entry["version"], data)
            found[name] = made
    return found


def _python_of(file: str) -> str:
    """The version that a compiled wheel is for; for the others the oldest, which they all suit."""
    tag = re.search(r"-cp3([0-9]+)-cp3", file)
    return f"3.{tag[1]}" if tag else PYTHONS[0]


def make_wheel(
    name: str, version: str, files: Mapping[str, bytes], metadata: Mapping[str, str]
) -> tuple[str, bytes]:
    """A wheel of pure Python, with the same bytes every time: its file name and content."""
    info = f"{name}-{version}.dist-info"
    wheel = (
        "Wheel-Version: 1.0\nGenerator: runner-bundle\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    )
    entries = dict(files)
    for path, text in {**metadata, "WHEEL": wheel}.items():
        entries[f"{info}/{path}"] = text.encode()
    record = "".join(
        f"{path},{_digest(data)},{len(data)}\n" for path, data in sorted(entries.items())
    )
    entries[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as archive:
        for path, data in sorted(entries.items()):
            entry = zipfile.ZipInfo(path, (1980, 1, 1, 0, 0, 0))
            entry.create_system, entry.external_attr = 3, 0o644 << 16
            archive.writestr(entry, data)
    return f"{name}-{version}-py3-none-any.whl", raw.getvalue()


def _digest(data: bytes) -> str:
    encoded = base64.urlsafe_b64encode(hashlib.sha256(data).digest())
    return f"sha256={encoded.decode().rstrip('=')}"


def _from_source(name: str, version: str, data: bytes) -> tuple[str, bytes]:
    """The wheel of a pure package that is published as source only."""
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        files, about = {}, ""
        for entry in archive:
            inner = PurePosixPath(*PurePosixPath(entry.name).parts[1:])
            content = archive.extractfile(entry) if entry.isfile() else None
            if content is not None and inner.parts[:1] == (name,) and inner.suffix == ".py":
                files[str(inner)] = content.read()
            elif content is not None and str(inner) == "PKG-INFO":
                about = content.read().decode()
    return make_wheel(name, version, files, {"METADATA": about})


def fetch(into: Path, requirement: str, arch: str, python: str, *options: str) -> None:
    """Have pip download what fits one architecture and Python. Raises RunnerError."""
    into.mkdir(parents=True, exist_ok=True)
    words = [sys.executable, "-m", "pip", "download", "--quiet", "--dest", str(into)]
    words += ["--disable-pip-version-check", "--no-input"]
    if requirement.startswith(SOURCE_ONLY):
        choice = ["--no-deps", "--no-binary", ":all:"]
    else:
        platforms = [f"--platform={tag}_{arch}" for tag in MANYLINUX]
        choice = ["--only-binary", ":all:", "--implementation=cp", *platforms]
        choice += [f"--python-version={python}", *options]
    done = subprocess.run([*words, *choice, requirement], capture_output=True, text=True)
    if done.returncode != 0:
        told = done.stderr.strip().splitlines() or ["it says nothing"]
        raise RunnerError(
            f"{requirement} can't be fetched: {told[-1]} (`{sys.executable} -m pip download`)"
        )


def lock(requirements: Iterable[str]) -> None:
    """Resolve dependencies for all that is supported, and write ``wheels.toml``."""
    wanted = list(requirements)
    lines: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        for arch in ARCHES:
            for python in PYTHONS:
                for requirement in wanted:
                    fetch(Path(folder), requirement, arch, python)
        for path in Path(folder).iterdir():
            name, version = path.name.removesuffix(".tar.gz").split("-")[:2]
            platform = path.stem.rsplit("-", 1)[-1] if path.suffix == ".whl" else "any"
            arch = next((arch for arch in ARCHES if arch in platform), "any")
            told = {"name": name, "version": version, "arch": arch, "file": path.name}
            told["sha256"] = sha256(path.read_bytes())
            rows = "".join(f"{key} = {json.dumps(value)}\n" for key, value in told.items())
            lines[path.name] = f"\n[[wheel]]\n{rows}"
    head = "# Written by `bundle.py lock`: every file that a bundle is made of, besides our own.\n"
    LOCK.write_text(head + "".join(lines[name] for name in sorted(lines)))


def sha256(data: bytes) -> str:
    """As it is written everywhere: in hexadecimal."""
    return hashlib.sha256(data).hexdigest()
