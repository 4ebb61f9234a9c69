"""The quick examples, each copied elsewhere and run with the real command, as a user would.

Nothing here looks into the product: exit codes, state, logs and results are what is checked.
"""

from __future__ import annotations

import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from example import Example, copy_document, copy_examples, copy_folder, read_json


def test_quickstart(tmp_path: Path) -> None:
    """The README's first command would fail, or its results wouldn't be where it says."""
    example = copy_document("quickstart.json", tmp_path)
    assert example.run() == 0
    assert example.state["queue_id"] == "my-first-queue"
    assert example.state["status"] == "completed"
    assert example.statuses() == dict.fromkeys(["setup", "process", "cleanup"], "completed")
    items = [f"Item {number}" for number in range(1, 11)]
    jobs = example.results / "jobs"
    assert (jobs / "setup" / "stdout.log").read_text() == "Starting...\n"
    assert (jobs / "process" / "output.txt").read_text().splitlines() == items
    assert (jobs / "cleanup" / "output.txt").read_text().splitlines() == [*items, "Done!"]


def test_retry_timeout_and_skip(tmp_path: Path) -> None:
    """The example that explains failures would show something else than it says."""
    example = copy_document("retry-timeout-skip.json", tmp_path)
    assert example.run() == 100
    assert example.state["status"] == "failed"
    assert example.statuses() == {
        "flaky": "completed",
        "stuck": "failed",
        "publish": "skipped",
        "independent": "completed",
        "alert": "completed",
        "cleanup": "completed",
    }

    flaky = example.job("flaky")
    assert (flaky["attempt"], flaky["exit_code"]) == (3, 0)
    assert "error_message" not in flaky
    assert (example.results / "jobs/flaky/stdout.log").read_text() == "attempt 3 of 3\n"
    attempts = example.log_dir / "queues/retry-timeout-skip/attempts/flaky"
    for number in (1, 2):
        assert (attempts / f"{number}/stdout.log").read_text() == f"attempt {number} of 3\n"
        assert (attempts / f"{number}/stderr.log").read_text() == "the network is down\n"

    stuck = example.job("stuck")
    assert stuck["error_message"] == "command timed out after 1s"
    assert (stuck["timed_out"], stuck["signal"], stuck["attempt"]) == (True, "SIGKILL", 1)
    assert "SIGTERM? Not now." in (example.results / "jobs/stuck/stdout.log").read_text()

    publish = example.job("publish")
    assert (publish["reason"], publish["attempt"]) == ("dependency 'stuck' failed", 0)
    assert (example.results / "jobs/alert/alert.txt").read_text() == "stuck failed\n"
    assert not (example.folder / "work/retry-timeout-skip").exists()


def rows(database: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute(query).fetchall()


def test_etl_loads_the_clean_rows_and_twice_is_once(tmp_path: Path) -> None:
    """Dirty or duplicate rows would reach the database, or a second run would add rows."""
    example = copy_folder("etl-pipeline", tmp_path)
    assert example.run() == 0
    assert set(example.statuses().values()) == {"completed"}
    summary = read_json(example.results / "jobs/transform/summary.json")
    counts = {key: summary[f"rows_{key}"] for key in ("read", "kept", "replaced", "rejected")}
    assert counts == {"read": 257, "kept": 247, "replaced": 5, "rejected": 5}
    report = example.results / "jobs/load/load_report.json"
    assert read_json(report) == {"inserted": 247, "updated": 0, "unchanged": 0, "total": 247}

    database = example.results / "jobs/load/weather.db"
    per_station = "SELECT station, count(*) FROM observations GROUP BY station"
    assert rows(database, per_station) == [("airport", 82), ("harbour", 83), ("hilltop", 82)]
    at = "SELECT temperature_c, wind_m_s FROM observations WHERE (station, observed_at) = {}"
    # 33.6 °F and 11.1 kn; then a row sent twice, the second time corrected from another value to
    # 2.5 °C, at 13:00 by its own clock of UTC+1.
    assert rows(database, at.format(("airport", "2026-01-01T00:00:00Z"))) == [(0.9, 5.7)]
    assert rows(database, at.format(("hilltop", "2026-01-18T12:00:00Z"))) == [(2.5, 5.9)]

    assert example.run("--fresh") == 0
    assert read_json(report) == {"inserted": 0, "updated": 0, "unchanged": 247, "total": 247}


def test_etl_with_a_limit_too_low_is_invalid_and_can_be_retried(tmp_path: Path) -> None:
    """Invalid data would be loaded, or a retry after the repair would begin at the beginning."""
    example = copy_folder("etl-pipeline", tmp_path)
    assert example.run(MAX_REJECTED_PERCENT="1") == 100
    assert_invalid(example, "5 of 257 rows rejected (1.9 %, at most 1 % allowed)")

    assert example.run("--retry-failed") == 0
    attempts = {job["job_id"]: job["attempt"] for job in example.state["jobs"]}
    assert attempts == {"extract": 1, "transform": 1, "validate": 2, "load": 1}
    assert rows(example.folder / "warehouse/weather.db", "SELECT count(*) FROM observations") == [
        (247,)
    ]


def test_etl_with_a_broken_source_is_invalid(tmp_path: Path) -> None:
    """A station whose data stopped coming would go unnoticed into the database."""
    example = copy_folder("etl-pipeline", tmp_path)
    source = example.folder / "data-lake/raw/observations-harbour.csv"
    source.write_text("".join(source.read_text().splitlines(keepends=True)[:40]))
    assert example.run() == 100
    assert_invalid(example, "station 'harbour': 38 rows for 21 days, 84 expected (at least 90 %)")


def assert_invalid(example: Example, why: str) -> None:
    assert example.statuses() == {
        "extract": "completed",
        "transform": "completed",
        "validate": "failed",
        "load": "skipped",
    }
    validate = example.job("validate")
    assert (validate["exit_code"], validate["attempt"]) == (3, 1)
    assert validate["error_message"] == "command execution failed: exit status 3"
    assert f"invalid: {why}" in (example.results / "jobs/validate/stderr.log").read_text()
    assert not (example.folder / "warehouse").exists()


def test_etl_load_that_fails_half_way_loads_nothing(tmp_path: Path) -> None:
    """A failed load would leave half of the rows behind."""
    example = copy_folder("etl-pipeline", tmp_path)
    assert example.run() == 0
    database = example.folder / "warehouse/weather.db"
    refuse = "BEGIN SELECT RAISE(ABORT, 'no more') WHERE new.station = 'hilltop'; END"
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("DELETE FROM observations")
        connection.execute(f"CREATE TRIGGER refuse BEFORE INSERT ON observations {refuse}")
    load = read_json(example.folder / "queue.json")["jobs"][3]["command"]
    done = subprocess.run(load, shell=True, cwd=example.folder, capture_output=True, text=True)
    assert (done.returncode, done.stderr.strip()) == (
        1,
        "nothing was loaded into warehouse/weather.db: no more",
    )
    assert rows(database, "SELECT count(*) FROM observations") == [(0,)]


@pytest.mark.parametrize("document", ["quickstart.json", "etl-pipeline/queue.json"])
def test_a_run_in_a_checkout_leaves_nothing_that_git_sees(tmp_path: Path, document: str) -> None:
    """Whoever tries the examples in a clone would find untracked files in it."""
    tree = copy_examples(tmp_path)
    git = ["git", "-C", str(tree)]
    subprocess.run([*git, "init", "--quiet"], check=True)
    # What this asks must not depend on the ignore rules of whoever runs the test.
    subprocess.run([*git, "config", "core.excludesFile", "/dev/null"], check=True)
    subprocess.run([*git, "add", "--all"], check=True)
    example = Example((tree / document).parent, tmp_path / "kept", Path(document).name)
    assert example.run() == 0
    assert any(example.results.iterdir())
    new = [*git, "ls-files", "--others", "--exclude-standard"]
    assert subprocess.check_output(new, text=True) == ""
