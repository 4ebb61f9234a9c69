"""The pattern for who comes from DVC: run again, it leaves out what has not changed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

CHAIN = Path(__file__).parents[2] / "examples" / "patterns" / "chain.yaml"


def test_the_chain_leaves_out_what_has_not_changed(tmp_path: Path) -> None:
    """Who comes from DVC would run all stages again for nothing, or none for another rate."""
    run(tmp_path)
    again = json.loads(run(tmp_path, "--fresh", "--reuse").stdout)["jobs"]
    assert [job["reason"] for job in again] == ["unchanged"] * 3
    other = json.loads(run(tmp_path, "--fresh", "--reuse", "--set", "lr=0.2").stdout)
    assert [job["attempt"] for job in other["jobs"]] == [1, 1, 1]
    assert (tmp_path / "data/metrics.txt").read_text() == "lr 0.2 weight 4020\n"


def run(folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    (folder / "q.yaml").write_bytes(CHAIN.read_bytes())
    command = Path(sys.executable).parent
    return subprocess.run(
        [sys.executable, "-m", "runner", "run", "q.yaml", "--json", *flags],
        cwd=folder,
        env={
            **os.environ,
            "PATH": f"{command}:{os.environ['PATH']}",
            "RUNNER_STATE_DIR": str(folder / "state"),
            "RUNNER_LOG_DIR": str(folder / "logs"),
        },
        capture_output=True,
        text=True,
        timeout=120,
    )
