"""The bundle that a launch ships: built of the runner that runs here, once, or given."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path

import pytest
from installed import REPOSITORY

from runner.bundle import wheels
from runner.bundle.installer import places
from runner.bundle.source import of_commit, of_package
from runner.errors import RunnerError, UsageError
from runner.targets.ec2.launch.bundles import bundle_file


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, but for the wheels: those are fetched once for all tests."""
    there = wheels.cache()
    there.mkdir(parents=True, exist_ok=True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "runner-bundle").symlink_to(there)
    return tmp_path / "runner" / "bundles"


def test_it_is_built_once(cache: Path) -> None:
    """Each launch would wait for a build, or one would ship the code of another version."""
    said: list[str] = []
    first = bundle_file(None, "x86_64", said.append)
    assert first.is_relative_to(cache) and len(said) == 1
    before = first.stat().st_mtime_ns
    assert bundle_file(None, "x86_64", said.append) == first
    assert len(said) == 1 and first.stat().st_mtime_ns == before
    with tarfile.open(first) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    assert {"install.sh", "installer/main.py", "VERSION", "systemd/runner.service"} <= inside
    assert any(re.fullmatch(r"wheels/queue_runner-.*\.whl", name) for name in inside)
    assert bundle_file(str(first), "x86_64", said.append) == first
    with pytest.raises(UsageError, match="is for x86_64, and the machine is aarch64"):
        bundle_file(str(first), "aarch64", said.append)


def test_what_is_no_bundle_costs_nothing(cache: Path, tmp_path: Path) -> None:
    """A machine would be launched to find out that it can't install a text file."""
    for name, made in (("missing", None), ("text", b"hello"), ("tar", b"")):
        path = tmp_path / name
        if name == "tar":
            with tarfile.open(path, "w:gz"):
                pass
        elif made is not None:
            path.write_bytes(made)
        with pytest.raises(UsageError, match=f"--bundle .*{name}"):
            bundle_file(str(path), "x86_64", print)
    with pytest.raises(UsageError, match="no bundle for i386"):
        bundle_file(None, "i386", print)


def test_where_none_can_be_built_it_says_what_to_do(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A laptop without a network, or a Python without pip, would show a traceback."""

    def fails(*_: str) -> None:
        raise RunnerError("boto3 can't be fetched: no network")

    (cache.parent.parent / "runner-bundle").unlink()
    monkeypatch.setattr(wheels, "fetch", fails)
    with pytest.raises(RunnerError, match="no network\ngive one with --bundle"):
        bundle_file(None, "x86_64", print)
    assert not list(cache.glob("*/*.tar.gz"))


def test_an_installed_package_has_all_that_a_bundle_is_made_of(tmp_path: Path) -> None:
    """A laptop that has runner from a wheel could not launch; it would work in a checkout only."""
    try:
        import setuptools  # noqa: F401
    except ImportError:
        assert os.environ.get("CI") != "true", "CI needs setuptools"
        pytest.skip("there is no setuptools here")
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", str(REPOSITORY), str(clone)], check=True)
    words = "import setuptools; setuptools.setup()"
    build = [sys.executable, "-W", "ignore", "-c", words, "--quiet", "build", "--build-lib"]
    subprocess.run([*build, str(tmp_path / "lib")], check=True, cwd=clone, capture_output=True)
    built = tmp_path / "lib"
    there = {path.relative_to(built).as_posix() for path in built.rglob("*") if path.is_file()}
    assert there == of_commit(clone).files.keys()


def test_package_and_commit_are_one_source() -> None:
    """What a laptop ships would be something else than what `make bundle` builds."""
    package, commit = of_package(), of_commit(REPOSITORY)
    assert (package.name, package.scripts) == (commit.name, dict(commit.scripts))
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert package.scripts == project["scripts"]


def test_every_command_of_the_package_is_on_the_path(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`runner-launch` would be there for who installs with pip, and for nobody else."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    with tarfile.open(bundle_file(None, "x86_64", print)) as archive:
        archive.extractall(tmp_path, filter="data")
    [unpacked] = tmp_path.glob("runner-[0-9]*")
    monkeypatch.setattr(places, "BUNDLE", unpacked)
    links = {path.name: target for path, target in places.links().items() if path != places.BIN}
    assert links == {name: f"/opt/runner/bin/{name}" for name in project["scripts"]}
    assert {"runner", "runner-launch", "runner-status"} <= links.keys()
