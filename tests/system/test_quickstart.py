"""The quickstart, followed to the letter in an empty folder."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "quickstart.md"

VARIES = re.compile(r"\d{4}-\d\d-\d\dT\S+Z|pid=\d+|\bin=\S+|\d+(\.\d+)?m?s\b|/\S+/out$")
"""Times, process ids and folders."""


def shown() -> list[tuple[str, int, str]]:
    """Each command of the page, the exit code it says, and the output it shows."""
    found = []
    for block in re.findall(r"```console\n(.*?)```", PAGE.read_text(), re.S):
        for command, output in re.findall(r"^\$ (.+)\n((?:(?!\$ ).*\n)*)", block, re.M):
            code = re.search(r"# exit code (\d+)", command)
            found.append((command, int(code[1]) if code else 0, output))
    return found


def test_the_quickstart_does_what_it_shows(tmp_path: Path) -> None:
    """A newcomer's first five minutes would go wrong, or look other than the page says."""
    text = PAGE.read_text()
    document = re.search(r"```json\n(.*?)```", text, re.S)
    assert document is not None
    (tmp_path / "queue.json").write_text(json.dumps(json.loads(document[1])))
    commands = shown()
    assert len(commands) >= 9
    for command, code, output in commands:
        done = call(command, tmp_path)
        assert done.returncode == code, (command, done)
        assert plain(done.stdout + done.stderr) == plain(output), command


def call(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """What a person's shell would do, with this runner and a state of its own."""
    own = {key: value for key, value in os.environ.items() if not key.startswith("RUNNER_")}
    folders = {"RUNNER_STATE_DIR": str(folder / "state"), "RUNNER_RUN_DIR": str(folder / "run")}
    path = f"{Path(sys.executable).parent}:{own['PATH']}"
    return subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=own | folders | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=120,
    )


def plain(output: str) -> list[str]:
    """Lines without what differs each time."""
    return [re.sub(r"\s+", " ", VARIES.sub("~", line)).strip() for line in output.splitlines()]


@pytest.mark.parametrize(
    ("one", "other"), [("queue running", "queue failed"), ("9 files", "8 files")]
)
def test_what_differs_is_noticed(one: str, other: str) -> None:
    """The comparison would leave so much out that any output passed."""
    assert plain(one) != plain(other)
