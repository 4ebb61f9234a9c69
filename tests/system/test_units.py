"""The units of systemd: they say what we mean, and systemd understands it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

UNITS = Path(__file__).parents[2] / "systemd"
DAEMON = "/opt/runner/bin/runner"


def tool(name: str) -> str:
    """A program of systemd. Missing, it skips on a developer's machine and fails in CI."""
    found = shutil.which(name)
    if found is None:
        assert os.environ.get("CI") != "true", f"{name} is needed in CI"
        pytest.skip(f"there is no {name} here")
    return found


@pytest.fixture
def units(tmp_path: Path) -> list[str]:
    """Copies of our units; their command is one that every machine has."""
    made = []
    for unit in sorted(path for path in UNITS.iterdir() if path.is_file()):
        copy = tmp_path / unit.name
        text = unit.read_text().replace(f"{DAEMON}-fleet", sys.executable)
        copy.write_text(text.replace(DAEMON, sys.executable))
        made.append(str(copy))
    assert len(made) == 6
    return made


def test_systemd_has_nothing_to_say_against_the_units(units: list[str]) -> None:
    """A misspelt line is ignored by systemd, and what it was to protect is open."""
    done = subprocess.run(
        [tool("systemd-analyze"), "verify", "--man=no", *units],
        capture_output=True,
        text=True,
        check=False,
    )
    ours = [line for line in done.stderr.splitlines() if "runner" in line]
    assert done.returncode == 0 and not ours, done.stderr


def test_the_jobs_user_may_not_act(tmp_path: Path) -> None:
    """A job could submit jobs: the group of the socket would be its own."""
    target = tmp_path / "usr/lib/sysusers.d"
    target.mkdir(parents=True)
    (tmp_path / "etc").mkdir()
    shutil.copy(UNITS / "sysusers.d/runner.conf", target)
    subprocess.run(
        [tool("systemd-sysusers"), f"--root={tmp_path}", "runner.conf"],
        check=True,
        capture_output=True,
    )
    groups = dict(row.split(":x:") for row in (tmp_path / "etc/group").read_text().split())
    user = next(
        row.split(":")
        for row in (tmp_path / "etc/passwd").read_text().splitlines()
        if row.startswith("runner:")
    )
    assert groups["runner-jobs"].split(":")[0] == user[3]
    assert groups["runner"].split(":")[0] != user[3] and groups["runner"].endswith(":")
