"""The patterns that the migration pages lead to, each run as it stands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from receiver import Receiver

from runner.errors import ExitCode

PATTERNS = Path(__file__).parents[2] / "examples" / "patterns"

# Of each its exit code, how many jobs are in which state, and a file with its text.
EXPECTED: dict[str, tuple[ExitCode, dict[str, int], str, str]] = {
    "chain": (ExitCode.DONE, {"completed": 3}, "data/metrics.txt", "lr 0.1 weight 2010\n"),
    "array": (
        ExitCode.DONE,
        {"failed": 1, "completed": 1},
        "summary.txt",
        "10 parts, sum 53\n",
    ),
    "samples": (
        ExitCode.DONE,
        {"completed": 13},
        "B.vcf",
        "reads of B on I\nreads of B on II\n",
    ),
    "checks": (
        ExitCode.QUEUE_FAILED,
        {"completed": 2, "failed": 2, "skipped": 1},
        "told.txt",
        "job 'test.3.12-postgres' failed",
    ),
    "fan-out": (ExitCode.DONE, {"completed": 3}, "total.txt", "200 samples, sum 40504500\n"),
    "found": (ExitCode.DONE, {"completed": 5}, "report.txt", "a.csv\nb.csv\nc.csv\n"),
    "sweep": (ExitCode.QUEUE_FAILED, {}, "best.txt", "sweep is over\n"),
}


@pytest.mark.parametrize("name", [path.stem for path in sorted(PATTERNS.glob("*.yaml"))])
def test_a_pattern_does_what_it_says(name: str, tmp_path: Path) -> None:
    """Somebody who moves a pipeline would begin with one that doesn't run."""
    code, counts, file, text = EXPECTED[name]
    (tmp_path / "q.yaml").write_bytes((PATTERNS / f"{name}.yaml").read_bytes())
    command = Path(sys.executable).parent
    receiver = Receiver()
    sets = ["--set", f"hook={receiver.url()}"] if name == "checks" else []
    done = subprocess.run(
        [sys.executable, "-m", "runner", "run", "q.yaml", "--json", *sets],
        cwd=tmp_path,
        env={
            **os.environ,
            "PATH": f"{command}:{os.environ['PATH']}",
            "RUNNER_STATE_DIR": str(tmp_path / "state"),
            "RUNNER_LOG_DIR": str(tmp_path / "logs"),
        },
        capture_output=True,
        text=True,
        timeout=120,
    )
    receiver.close()
    assert done.returncode == code, done.stderr
    if name == "checks":
        told = {came.body["event"]: came.body["reason"] for came in receiver.received}
        assert told.keys() == {"first_failure", "failed"}
        (tmp_path / file).write_text(told["failed"])
    assert (tmp_path / file).read_text() == text
    found = Counter(job["status"] for job in json.loads(done.stdout)["jobs"])
    if name == "sweep":
        # Those that ran when the twentieth failed went on to their ends.
        assert 20 <= found["failed"] <= 27
        assert found.total() == 541
    else:
        assert found == counts
