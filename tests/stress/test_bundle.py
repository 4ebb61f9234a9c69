"""What the packages are made of; test_lab_install.py shows them at work."""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from installed import REPOSITORY, build_bundle
from lab import Machine

from runner.bundle.deb import deb_version
from runner.bundle.wheels import PYTHONS


def build_deb(into: Path, version: str, repository: Path = REPOSITORY) -> Path:
    """The Debian package of the commit that is checked out."""
    words = [sys.executable, repository / "packaging" / "bundle.py", "build", "--deb"]
    words += ["--arch", "x86_64", "--version", version, "--into", into]
    return Path(subprocess.run(words, check=True, stdout=-1, text=True).stdout.strip())


def dpkg_deb(*words: str | Path) -> str:
    if shutil.which("dpkg-deb") is None:
        assert os.environ.get("CI") != "true", "CI needs dpkg-deb"
        pytest.skip("there is no dpkg-deb here")
    return subprocess.run(["dpkg-deb", *words], check=True, stdout=-1, text=True).stdout


def test_debian_reads_the_package(tmp_path: Path) -> None:
    """Broken: dpkg can't read what our own code writes, or files of the bundle aren't in it."""
    package = build_deb(tmp_path, "0.1.0")
    assert package.name == "queue-runner_0.1.0_amd64.deb"
    assert dpkg_deb("--field", package, "Package", "Version", "Architecture").splitlines() == [
        "Package: queue-runner",
        "Version: 0.1.0",
        "Architecture: amd64",
    ]
    dpkg_deb("--raw-extract", package, tmp_path / "out")
    there = tmp_path / "out" / "usr/lib/queue-runner"
    for line in (there / "SHA256SUMS").read_text().splitlines():
        sha256, _, name = line.partition("  ")
        assert hashlib.sha256((there / name).read_bytes()).hexdigest() == sha256
    for script in ("postinst", "prerm", "postrm"):
        path = tmp_path / "out" / "DEBIAN" / script
        subprocess.run(["sh", "-n", path], check=True)
        assert os.access(path, os.X_OK)


def test_the_same_commit_gives_the_same_package(tmp_path: Path) -> None:
    """Broken: nobody can check that a package was made from the commit that it names."""
    clone = tmp_path / "a-longer-name"
    subprocess.run(["git", "clone", "--quiet", str(REPOSITORY), str(clone)], check=True)
    first, second = (
        build_deb(tmp_path / name, "0.1.0+gabc", repository)
        for name, repository in (("a", REPOSITORY), ("b", clone))
    )
    assert first.name == second.name and first.read_bytes() == second.read_bytes()


def test_a_newer_commit_is_a_newer_package(tmp_path: Path) -> None:
    """Broken: apt refuses an upgrade as a downgrade, one time in two."""
    if shutil.which("dpkg") is None:
        assert os.environ.get("CI") != "true", "CI needs dpkg"
        pytest.skip("there is no dpkg here")
    order = [deb_version("0.1.0+gf00", 1_800_000_000), deb_version("0.1.0+g000", 1_800_000_001)]
    order += [deb_version("0.1.0", 1_800_000_002), deb_version("0.1.1+g000", 1_800_000_003)]
    for older, newer in itertools.pairwise(order):
        subprocess.run(["dpkg", "--compare-versions", older, "lt", newer], check=True)


def test_the_lock_covers_every_dependency_of_both_machines() -> None:
    """Broken: a bundle without a wheel that the daemon imports, or with one for another Python."""
    wheels = tomllib.loads((REPOSITORY / "runner/bundle/wheels.toml").read_text())["wheel"]
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    for arch in ("x86_64", "aarch64"):
        names = {wheel["name"] for wheel in wheels if wheel["arch"] in ("any", arch)}
        wanted = {re.split("[>=]", one)[0] for one in project["dependencies"]}
        assert {name.replace("-", "_") for name in wanted} <= names
    compiled: dict[tuple[str, str], set[str]] = {}
    for wheel in wheels:
        if tag := re.search(r"-cp(3)([0-9]+)-cp3", wheel["file"]):
            key = (wheel["name"], wheel["arch"])
            compiled.setdefault(key, set()).add(f"{tag[1]}.{tag[2]}")
        else:
            assert re.search(r"-none-any\.whl$|-abi3-|\.tar\.gz$", wheel["file"])
    assert all(pythons == set(PYTHONS) for pythons in compiled.values())
    assert {arch for _, arch in compiled} == {"x86_64", "aarch64"}


def test_an_old_python_is_refused_with_what_to_do(tmp_path: Path) -> None:
    """Broken: where Python is 3.10 (Ubuntu 22.04) the service would die at its first start."""
    bundle = build_bundle(tmp_path)
    subprocess.run(["tar", "xzf", bundle, "-C", tmp_path], check=True)
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "dirname").symlink_to(str(shutil.which("dirname")))
    (tools / "python3").write_text("#!/bin/sh\nexit 1\n")
    (tools / "python3").chmod(0o755)
    script = tmp_path / bundle.name.removesuffix(".tar.gz") / "install.sh"
    words = ["/bin/sh", str(script), "--no-start"]
    done = subprocess.run(words, env={"PATH": str(tools)}, stderr=-1, text=True, check=False)
    assert done.returncode == 1 and "apt-get install python3.11" in done.stderr


def test_dpkg_installs_and_purges_it(machine: Callable[..., Machine], tmp_path: Path) -> None:
    """Broken: the package's scripts don't call the installer, or leave something behind."""
    host = machine().boot()
    host.write("/etc/runner/runner.toml", 'job_user = "root"\n')
    host.write("/root/runner.deb", build_deb(tmp_path, "0.1.0"))
    host.run("dpkg", "--install", "/root/runner.deb")
    assert host.show("runner", "ActiveState") == "active"
    host.run("dpkg", "--purge", "queue-runner")
    ours = ("/opt/runner", "/usr/lib/queue-runner", "/var/lib/runner", "/var/lib/queue-runner")
    assert [place for place in ours if host.exists(place)] == []
    assert host.read("/etc/runner/runner.toml"), "it was there before, and isn't the package's"
    assert host.show("runner", "LoadState") == "not-found"
