"""A database that is older than its jobs: its log was lost, or a copy was restored."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from bed import Bed, until

ALONE = "exec 9>> lock; flock -n 9 || echo OVERLAP >> said; echo run >> said; "


@pytest.fixture
def bed(tmp_path: Path) -> Iterator[Bed]:
    """A place of its own, whose processes end with it."""
    made = Bed(tmp_path)
    yield made
    made.close()


def lose_the_log(folder: Path) -> None:
    (folder / "state.db-wal").unlink()


def damage_the_log(folder: Path) -> None:
    log = folder / "state.db-wal"
    content = bytearray(log.read_bytes())
    content[32 + 24 + 100] ^= 0xFF  # in the first page of the first frame
    log.write_bytes(content)


def restore_a_copy(folder: Path) -> None:
    """As our own message advises: the copy is from before the job began."""
    lose_the_log(folder)
    shutil.copy(folder / "copy.db", folder / "state.db")


def stored(folder: Path) -> dict[str, Any]:
    """What queue-state.json says of each job; it is written some time after the database."""
    try:
        text = (folder / "queue-state.json").read_text()
    except FileNotFoundError:
        return {}
    return {job["job_id"]: job for job in json.loads(text)["jobs"]}


@pytest.mark.parametrize("harm", [lose_the_log, damage_the_log, restore_a_copy])
def test_a_living_attempt_is_never_run_beside(bed: Bed, harm: Callable[[Path], None]) -> None:
    """A job runs twice at once; or steps that were durable are gone without a word."""
    document = bed.document(
        [{"job_id": "a", "command": f"{ALONE} until [ -e go ]; do sleep 0.05; done"}]
    )
    folder = bed.state / "queues/q"
    run = bed.start(bed.command("run", document))
    until(lambda: bed.state.exists() and (folder / "state.db").exists(), "the state")
    with closing(sqlite3.connect(folder / "state.db")) as opened:
        # The log is in it, but for what comes after.
        opened.execute("PRAGMA wal_checkpoint(PASSIVE)")
    until(lambda: (bed.root / "said").exists(), "the job")
    run.kill()
    run.wait()
    shutil.copy(folder / "state.db", folder / "copy.db")
    (folder / "queue-state.json").unlink(missing_ok=True)
    (folder / "state.db-shm").unlink(missing_ok=True)
    harm(folder)
    run = bed.start(bed.command("run", document))
    # An attempt that ends before it is adopted is told of otherwise.
    until(lambda: " adopted attempt=" in bed.output(run), "the attempt to be adopted")
    (bed.root / "go").touch()
    code, told = bed.finish(run)
    assert code == 0, told
    assert (bed.root / "said").read_text() == "run\n"
    assert "queue state went back lost=" in told
    assert "a adopted attempt=1" in told


def test_fresh_ends_what_a_state_that_went_back_does_not_know(bed: Bed) -> None:
    """``--fresh`` looks for living attempts in the database alone, and runs beside them."""
    wait = f"{ALONE} until [ -e go ]; do sleep 0.05; done"
    document = bed.document([{"job_id": "a", "command": wait}])
    run = bed.start(bed.command("run", document))
    until(lambda: (bed.root / "said").exists(), "the job")
    run.kill()
    run.wait()
    lose_the_log(bed.state / "queues/q")
    run = bed.start(bed.command("run", document, "--fresh"))
    until(lambda: (bed.root / "said").read_text().count("run") == 2, "the next attempt")
    (bed.root / "go").touch()
    code, told = bed.finish(run)
    assert code == 0, told
    assert "OVERLAP" not in (bed.root / "said").read_text()


@pytest.mark.parametrize("harm", [lose_the_log, damage_the_log, restore_a_copy])
def test_what_the_state_file_knows_comes_back(bed: Bed, harm: Callable[[Path], None]) -> None:
    """Completed jobs run again, and a living attempt is ended, for steps that are known."""
    wait = f"{ALONE} until [ -e go ]; do sleep 0.05; done"
    jobs = [
        {"job_id": "done", "command": "echo done >> said"},
        {"job_id": "lives", "command": wait, "depends_on": ["done"]},
        {"job_id": "after", "command": "echo after >> said", "depends_on": ["lives"]},
    ]
    document = bed.document(jobs)
    folder = bed.state / "queues/q"
    run = bed.start(bed.command("run", document))
    until(lambda: (bed.root / "said").exists(), "the first job")
    shutil.copy(folder / "state.db", folder / "copy.db")
    until(lambda: "run" in (bed.root / "said").read_text(), "the second")
    until(lambda: stored(folder).get("lives", {}).get("pid"), "its pid in the file")
    run.kill()
    run.wait()
    harm(folder)
    run = bed.start(bed.command("run", document))
    # An attempt that ends before it is adopted is told of otherwise.
    until(lambda: " adopted attempt=" in bed.output(run), "the attempt to be adopted")
    (bed.root / "go").touch()
    code, told = bed.finish(run)
    assert code == 0, told
    assert (bed.root / "said").read_text().split() == ["done", "run", "after"]
    assert "brought_back_from=queue-state.json" in told
    assert "lives adopted" in told
    assert [job["attempt"] for job in bed.status()["jobs"]] == [1, 1, 1]
