"""Builds ``dist/runner-<version>-<arch>.tar.gz``: all that an installation needs, in one file.

The same commit gives the same bytes: files come from the commit; wheels are named
with their sha256 in ``wheels.toml``; times are the commit's. Wheels are fetched once, into
a cache outside the repository; with that no network is needed.

    bundle.py build [--deb] [--version V] [--arch A]    bundle.py lock
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from pathlib import Path, PurePosixPath

from archives import make_tar_gz
from deb import make_deb

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent
LOCK = HERE / "wheels.toml"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "runner-bundle"
ARCHES = ("x86_64", "aarch64")
PYTHONS = ("3.11", "3.12", "3.13")
# Amazon Linux 2023 has glibc 2.34, Ubuntu 22.04 2.35.
MANYLINUX = ("manylinux2014", "manylinux_2_17", "manylinux_2_28")
# Published as source only; it is one module, of which we make the wheel.
SOURCE_ONLY = ("sdnotify",)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    build = verbs.add_parser("build", help="build the bundle of the commit that is checked out")
    build.add_argument("--version", help="instead of the commit's own")
    build.add_argument("--arch", choices=ARCHES, action="append", help="default: all")
    build.add_argument("--into", type=Path, default=REPOSITORY / "dist")
    build.add_argument("--deb", action="store_true", help="a Debian package of the same files")
    verbs.add_parser("lock", help="choose the newest wheels, and write their hashes down")
    given = parser.parse_args()
    if given.verb == "lock":
        lock()
        return 0
    for arch in given.arch or ARCHES:
        print(bundle(arch, given.version or version(), given.into, deb=given.deb))
    return 0


# -- the bundle ------------------------------------------------------------------------------


def bundle(arch: str, version: str, into: Path, *, deb: bool = False) -> Path:
    """Write the bundle, or the Debian package of it, for one architecture; its path."""
    files, time = bundle_files(arch, version), commit_time()
    if deb:
        name, data = make_deb(files, version, arch, time)
    else:
        stem = f"runner-{version}-{arch}"
        name, inside = f"{stem}.tar.gz", {f"{stem}/{path}": files[path] for path in files}
        data = make_tar_gz(inside, {f"{stem}/install.sh"}, time)
    into.mkdir(parents=True, exist_ok=True)
    target = into / name
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    beside.write_bytes(data)
    beside.rename(target)
    return target


def bundle_files(arch: str, version: str) -> dict[str, bytes]:
    """What is in the bundle, by its path there."""
    source = committed()
    files = {f"wheels/{name}": data for name, data in wheels(arch).items()}
    name, data = runner_wheel(source, version)
    files[f"wheels/{name}"] = data
    for path, data in source.items():
        if path.startswith("systemd/"):
            files[path] = data
    for name in ("install.sh", "installer.py"):
        files[name] = source[f"packaging/{name}"]
    files["VERSION"] = f"{version} {arch}\n".encode()
    sums = "".join(f"{sha256(data)}  {path}\n" for path, data in sorted(files.items()))
    files["SHA256SUMS"] = sums.encode()
    return files


def runner_wheel(source: dict[str, bytes], version: str) -> tuple[str, bytes]:
    """runner's own wheel; the version in it is the bundle's."""
    project = tomllib.loads(source["pyproject.toml"].decode())["project"]
    files = {path: data for path, data in source.items() if path.startswith("runner/")}
    init = files["runner/__init__.py"].decode()
    head, _, _ = init.partition("__version__ = ")
    files["runner/__init__.py"] = f"{head}__version__ = {json.dumps(version)}\n".encode()
    scripts = "".join(f"{name} = {target}\n" for name, target in project["scripts"].items())
    return make_wheel(
        project["name"].replace("-", "_"),
        version,
        files,
        {
            "METADATA": f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {version}\n",
            "entry_points.txt": f"[console_scripts]\n{scripts}",
        },
    )


def make_wheel(
    name: str, version: str, files: dict[str, bytes], metadata: dict[str, str]
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


# -- the commit ------------------------------------------------------------------------------


def git(*words: str) -> bytes:
    return subprocess.run(["git", "-C", str(REPOSITORY), *words], check=True, stdout=-1).stdout


def committed() -> dict[str, bytes]:
    """Every file of the commit, by its path; of the tree, where there is no repository."""
    if not (REPOSITORY / ".git").exists():
        parts = ("runner", "systemd", "packaging")
        paths = [path for part in parts for path in (REPOSITORY / part).rglob("*")]
        kept = [path for path in paths if path.is_file() and path.suffix != ".pyc"]
        kept.append(REPOSITORY / "pyproject.toml")
        return {path.relative_to(REPOSITORY).as_posix(): path.read_bytes() for path in kept}
    with tarfile.open(fileobj=io.BytesIO(git("archive", "HEAD"))) as archive:
        found = {}
        for entry in archive:
            if entry.isfile() and (data := archive.extractfile(entry)) is not None:
                found[entry.name] = data.read()
        return found


def commit_time() -> int:
    if (told := os.environ.get("SOURCE_DATE_EPOCH")) or not (REPOSITORY / ".git").exists():
        return int(told or 0)
    return int(git("show", "-s", "--format=%ct", "HEAD"))


def version() -> str:
    """The number in the code; with the commit, if that isn't tagged as this version."""
    init = git("show", "HEAD:runner/__init__.py").decode()
    number = init.partition('__version__ = "')[2].partition('"')[0]
    tags = git("tag", "--points-at", "HEAD").decode().split()
    commit = git("rev-parse", "--short=12", "HEAD").decode().strip()
    return number if f"v{number}" in tags else f"{number}+g{commit}"


# -- the wheels ------------------------------------------------------------------------------


def wheels(arch: str) -> dict[str, bytes]:
    """The locked wheels for an architecture, from the cache or fetched; each is what was locked."""
    found = {}
    for entry in tomllib.loads(LOCK.read_text())["wheel"]:
        if entry["arch"] not in (arch, "any"):
            continue
        path = CACHE / entry["file"]
        if not path.exists():
            fetch(f"{entry['name']}=={entry['version']}", arch, PYTHONS[0], "--no-deps")
        data = path.read_bytes() if path.exists() else b""
        if sha256(data) != entry["sha256"]:
            sys.exit(f"{path} isn't the file that {LOCK.name} names; remove it, and try again")
        if path.suffix == ".whl":
            found[path.name] = data
        else:
            name, made = from_source(entry["name"], entry["version"], data)
            found[name] = made
    return found


def from_source(name: str, version: str, data: bytes) -> tuple[str, bytes]:
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


def fetch(requirement: str, arch: str, python: str, *options: str) -> None:
    """Have pip download what fits one architecture and Python into the cache."""
    CACHE.mkdir(parents=True, exist_ok=True)
    words = [sys.executable, "-m", "pip", "download", "--quiet", "--dest", str(CACHE)]
    if requirement.startswith(SOURCE_ONLY):
        choice = ["--no-deps", "--no-binary", ":all:"]
    else:
        platforms = [f"--platform={tag}_{arch}" for tag in MANYLINUX]
        choice = ["--only-binary", ":all:", "--implementation=cp", *platforms]
        choice += [f"--python-version={python}", *options]
    subprocess.run([*words, *choice, requirement], check=True)


def lock() -> None:
    """Resolve pyproject's dependencies for all that is supported, and write ``wheels.toml``."""
    global CACHE
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    lines: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        CACHE = Path(folder)
        for arch in ARCHES:
            for python in PYTHONS:
                for requirement in project["dependencies"]:
                    fetch(requirement, arch, python)
        for path in CACHE.iterdir():
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
    return hashlib.sha256(data).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
