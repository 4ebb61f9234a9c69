"""`logs` with a pattern: of this machine's queue, followed, and out of a store."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

QUEUE = {
    "queue_id": "q",
    "queue_name": "q",
    "global_timeout": "1m",
    "on_failure": "continue",
    "jobs": [
        {"job_id": "x", "array": 2, "timeout": "9s", "command": "echo $RUNNER_ARRAY_INDEX"},
        {"job_id": "y", "timeout": "9s", "command": "echo y", "depends_on": ["x"]},
        {
            "job_id": "z",
            "timeout": "9s",
            "command": "true",
            "depends_on": ["y"],
            "run_if": "failure",
        },
    ],
}
ELEMENTS = "==> x[0] <==\n0\n==> x[1] <==\n1\n"


def runner(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    folders = {f"RUNNER_{name}_DIR": str(folder / name) for name in ("STATE", "LOG", "RUN")}
    return subprocess.run(
        [sys.executable, "-m", "runner", *words],
        cwd=folder,
        env={**os.environ, **folders},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_a_pattern_shows_elements_of_arrays_too(tmp_path: Path) -> None:
    """The logs of an array would have to be asked for one element at a time."""
    (tmp_path / "q.json").write_text(json.dumps(QUEUE))
    assert runner(tmp_path, "run", "q.json", "--results", "results").returncode == 0
    assert runner(tmp_path, "logs", "x[*]").stdout == ELEMENTS
    for words in (["logs", "*"], ["logs", "-f", "*"], ["logs", "*", "--from", "results"]):
        shown = runner(tmp_path, *words)
        assert (shown.stdout, shown.returncode) == (f"{ELEMENTS}==> y <==\ny\n", 0), words
    for words in (["logs", "z*"], ["logs", "z*", "--from", "results"]):
        shown = runner(tmp_path, *words)
        assert shown.returncode == 102
        assert "no job in 'q' that has started matches \"z*\"" in shown.stderr
