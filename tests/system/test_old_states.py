"""A state written by any released version loads in every later one: a sample of each is kept."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from bed import Bed

from runner.core.states import JobStatus
from runner.store.database import SCHEMA_VERSION, Database

SAMPLES = Path(__file__).parent.parent / "data"


@pytest.fixture
def bed(tmp_path: Path) -> Iterator[Bed]:
    made = Bed(tmp_path)
    yield made
    made.close()


def laid_out(bed: Bed, version: int) -> Path:
    """A copy of a sample, where runner looks for it; its document."""
    sample = SAMPLES / f"state-v{version}"
    folder = bed.state / "queues/sample"
    folder.mkdir(parents=True)
    shutil.copy(sample / "state.db", folder)
    shutil.copy(sample / "queue.json", bed.root)
    return bed.root / "queue.json"


@pytest.mark.parametrize("version", range(1, SCHEMA_VERSION + 1))
def test_an_old_state_loads_with_all_it_says(bed: Bed, version: int) -> None:
    """An upgrade of runner would lose, or refuse, the queues under way."""
    laid_out(bed, version)
    opened = Database(bed.state / "queues/sample/state.db")
    loaded = opened.load()
    opened.close()
    assert [loaded.jobs[n].status.value for n in range(8)] == [
        "completed",
        "failed",
        "skipped",
        "failed",
        "failed",
        "completed",
        "cancelled",
        "running",
    ]
    assert (loaded.jobs[1].exit_code, loaded.jobs[3].signal) == (3, "SIGKILL")
    assert loaded.jobs[4].timed_out
    assert loaded.jobs[7].live is not None
    assert loaded.jobs[7].live.attempt == 1


@pytest.mark.parametrize("version", range(1, SCHEMA_VERSION + 1))
def test_an_old_state_is_resumed(bed: Bed, version: int) -> None:
    """A queue begun before an upgrade would begin anew, or never end, after it."""
    document = laid_out(bed, version)
    code, told = bed.run("run", document)
    assert code == 100, told
    after = {job["job_id"]: job for job in bed.status()["jobs"]}
    assert after["done"]["attempt"] == 1
    assert after["cut"]["status"] == JobStatus.COMPLETED.value
    assert (after["cut"]["attempt"], after["cut"]["interruptions"]) == (2, 1)
    assert after["last"]["status"] == "completed"
    if version > 1:  # a queue that jobs were added to
        assert after["extra"]["status"] == "completed"


def test_a_newer_state_is_refused_and_left_alone(bed: Bed) -> None:
    """An older runner would misread what a newer one wrote."""
    document = laid_out(bed, SCHEMA_VERSION)
    path = bed.state / "queues/sample/state.db"
    opened = Database(path)
    opened.write_meta({"schema_version": str(SCHEMA_VERSION + 1)})
    opened.close()
    before = path.read_bytes()
    code, told = bed.run("run", document)
    assert code == 1
    assert "newer" in told
    assert path.read_bytes() == before
