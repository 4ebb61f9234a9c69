"""What the state says is done is on the disk; what is shown is never much older than the truth."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from bed import Bed, until

SLOW_SYNC = """
import os, sys, time
from runner.engine import process_backend
def sync_for(folder, patterns, rights, real=process_backend.sync_for):
    open(os.environ["BED"] + "/syncing", "w").close()
    while not os.path.exists(os.environ["BED"] + "/synced"):
        time.sleep(0.01)
    real(folder, patterns, rights)
process_backend.sync_for = sync_for
from runner.cli.main import run_command
sys.exit(run_command(sys.argv[1:]))
"""


@pytest.fixture
def bed(tmp_path: Path) -> Iterator[Bed]:
    made = Bed(tmp_path)
    yield made
    made.close()


def test_a_long_job_is_completed_only_when_its_files_are_synced(bed: Bed) -> None:
    """A power cut would leave a job completed whose files were never on the disk."""
    document = bed.document(
        [
            {"job_id": "short", "command": "true"},
            {"job_id": "long", "command": "sleep 1.1", "result_paths": ["none/*"]},
            {"job_id": "next", "command": "true", "depends_on": ["long"]},
        ]
    )
    command = [sys.executable, "-c", SLOW_SYNC, *bed.command("run", document)[3:]]
    run = bed.start(command, BED=str(bed.root))
    until(lambda: (bed.root / "syncing").exists(), "the sync")
    assert [job["status"] for job in bed.status()["jobs"]] == ["completed", "running", "pending"]
    (bed.root / "synced").touch()
    code, told = bed.finish(run)
    assert code == 0, told


def test_the_state_file_is_at_most_two_seconds_old_and_exact_at_the_end(bed: Bed) -> None:
    """People and S3 would see a state of long ago, or a queue that never ends."""
    jobs = [{"job_id": f"j{n}", "command": "sleep 0.15"} for n in range(30)]
    document = bed.document(jobs)
    run = bed.start(bed.command("run", document))
    path = bed.state / "queue-state.json"
    until(path.exists, "the state file")
    oldest = 0.0
    while run.poll() is None:
        shown = json.loads(path.read_text())
        true = bed.status()
        if true["status"] == "running":
            done = true["counts"]["completed"]
            behind = done - sum(job["status"] == "completed" for job in shown["jobs"])
            oldest = max(oldest, behind * 0.15)
        time.sleep(0.1)  # reason: looks now and then, for as long as it runs
    assert oldest <= 2.3, f"{oldest} s behind, at some 0.15 s a job"
    shown = json.loads(path.read_text())
    assert shown["status"] == "completed"
    assert {job["status"] for job in shown["jobs"]} == {"completed"}
    assert path.is_symlink()


def test_validate_warns_of_results_on_a_tmpfs(bed: Bed) -> None:
    """A reboot would take results with it that nobody knew were in memory."""
    memory = Path("/dev/shm")
    if not memory.is_dir():
        pytest.skip("there is no tmpfs here")
    document = bed.document(
        [{"job_id": "a", "command": "true", "result_paths": ["/dev/shm/x/*.pt", "/nowhere/y"]}]
    )
    process = bed.start([sys.executable, "-m", "runner", "validate", str(document)])
    code, told = bed.finish(process)
    assert code == 0
    assert "/dev/shm/x/*.pt is on a tmpfs" in told
    assert "/nowhere" not in told
