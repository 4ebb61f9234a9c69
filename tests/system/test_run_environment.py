"""Bad surroundings: full disks, damaged and foreign files, locks, clocks, forged pids."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from bed import Bed, until

from runner.core.states import QueueState
from runner.errors import StateError
from runner.store import database
from runner.store.database import Database
from runner.store.paths import QueuePaths


@pytest.fixture
def bed(tmp_path: Path) -> Iterator[Bed]:
    made = Bed(tmp_path)
    yield made
    made.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of 4 MiB; needs root."""
    if os.geteuid() != 0:
        if os.environ.get("CI") == "true":
            pytest.fail("mounting a tmpfs needs root, and CI has to have it")
        pytest.skip("mounting a tmpfs needs root")
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def fill(folder: Path) -> Path:
    """Take all the room there is."""
    ballast = folder / "ballast"
    with open(ballast, "wb", buffering=0) as file:
        size = 1 << 16
        while size:
            try:
                file.write(b"x" * size)
            except OSError:
                size //= 2
    return ballast


def waiting_job(name: str, go: Path, **more: object) -> dict[str, object]:
    """A job that ends when a file appears."""
    return {"job_id": name, "command": f"until test -e {go}; do sleep 0.02; done", **more}


def test_full_disk_holds_steps_back_and_loses_nothing(bed: Bed, small_disk: Path) -> None:
    """A commit that found no room would be lost, start jobs unrecorded, or kill running ones."""
    bed.state = small_disk / "state"
    go = bed.root / "go"
    document = bed.document(
        [waiting_job("a", go), {"job_id": "b", "command": "true", "depends_on": ["a"]}]
    )
    run = bed.start(bed.command("run", document), RUNNER_DISK_RESERVE="4KiB")
    until(lambda: (bed.logs / "queues/q/jobs/a-stdout.log").exists(), "the first job")
    until(lambda: bed.job("a").get("pid"), "the first job's pid")
    take_the_log_s_room(bed.state / "queues/q/state.db-wal")
    ballast = fill(small_disk)
    go.touch()
    until(lambda: "full" in bed.status().get("blocked", ""), "the full disk in status")
    assert run.poll() is None
    assert not (bed.logs / "queues/q/jobs/b-stdout.log").exists()
    ballast.unlink()
    code, told = bed.finish(run)
    assert code == 0, told
    assert "queue state not written why=" in told and "queue state written again" in told
    jobs = bed.status()["jobs"]
    assert [(job["status"], job["attempt"], job["exit_code"]) for job in jobs] == [
        ("completed", 1, 0),
        ("completed", 1, 0),
    ]


def take_the_log_s_room(log: Path) -> None:
    """Give back what is reserved beyond its end."""
    end = -(-log.stat().st_size // 4096) * 4096
    punch = ["fallocate", "--punch-hole", "-o", str(end), "-l", str(8 << 20), str(log)]
    subprocess.run(punch, check=True)


def test_state_is_written_on_a_full_disk(bed: Bed, small_disk: Path) -> None:
    """A queue whose last jobs need no space would wait for some, and a person would never know."""
    bed.state = small_disk / "state"
    go = bed.root / "go"
    jobs = [waiting_job("a", go), *({"job_id": f"b{n}", "command": "true"} for n in range(8))]
    run = bed.start(bed.command("run", bed.document(jobs)), RUNNER_DISK_RESERVE="64KiB")
    until(lambda: bed.logs.exists() and bed.job("a").get("pid"), "the first job's pid")
    fill(small_disk)
    go.touch()
    code, told = bed.finish(run)
    assert code == 0, told
    assert told.count("started in reserve") == 8
    assert {job["status"] for job in bed.status()["jobs"]} == {"completed"}


def test_one_job_fills_the_disk_and_the_next_cleans_it(bed: Bed, small_disk: Path) -> None:
    """The guide's own pattern: the job that would make room may not start for want of room."""
    bed.state = small_disk / "state"
    full = small_disk / "scratch"
    jobs: list[dict[str, object]] = [
        {"job_id": "fill", "command": f"cat /dev/zero > {full}"},
        {"job_id": "other", "command": f"test ! -e {full}", "depends_on": ["clean"]},
        {"job_id": "clean", "command": f"rm {full}", "depends_on": ["fill"], "run_if": "always"},
    ]
    document = bed.document(jobs, on_failure="continue")
    code, told = bed.run("run", document, RUNNER_DISK_RESERVE="512KiB")
    assert code == 100, told
    assert [job["status"] for job in bed.status()["jobs"]] == ["failed", "completed", "completed"]
    assert "clean started in reserve" in told


def test_failures_on_a_full_disk_do_not_count(bed: Bed, small_disk: Path) -> None:
    """What fails because others filled the disk would be failed for good."""
    bed.state = small_disk / "state"
    bed.state.mkdir()
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * (7 << 19))
    document = bed.document(
        [{"job_id": "a", "command": f"head -c 1000000 /dev/zero > {small_disk}/a"}]
    )
    run = bed.start(bed.command("run", document), RUNNER_DISK_RESERVE="1MiB")
    until(
        lambda: (
            (bed.state / "queues/q/state.db").exists()
            and "failed in the reserve" in bed.job("a").get("reason", "")
        ),
        "the first failure",
    )
    state = bed.status()
    assert state["status"] == "running"
    assert "disk full" in state["reason"]
    ballast.unlink()
    code, told = bed.finish(run)
    assert code == 0, told
    assert bed.job("a")["attempt"] == 2


def test_reserve_stops_starts_and_ends_by_itself(bed: Bed, small_disk: Path) -> None:
    """Starting jobs on an almost full disk would fail them all; waiting for a hand would hang."""
    bed.state = small_disk / "state"
    ballast, go = small_disk / "ballast", bed.root / "go"
    bed.state.mkdir()
    stop = {"job_id": "first", "command": f"head -c {3 << 20} /dev/zero > {ballast}"}
    jobs = [waiting_job("a", go), stop, {"job_id": "b", "command": f"touch {go}"}]
    document = bed.document(jobs, max_parallel_jobs=2)
    run = bed.start(bed.command("run", document), RUNNER_DISK_RESERVE="2000KiB")
    told = until(
        lambda: (bed.state / "queues/q/state.db").exists() and bed.status().get("blocked"),
        "the reserve in status",
    )
    assert "disk full" in told
    assert bed.job("b")["status"] == "pending"
    ballast.unlink()
    assert bed.finish(run)[0] == 0


def test_full_disk_at_the_very_start_is_told(bed: Bed, small_disk: Path) -> None:
    """A queue that can't be stored would be half there, or end in a traceback."""
    bed.state = small_disk / "state"
    bed.state.mkdir()
    ballast = fill(small_disk)
    code, told = bed.run("run", bed.document([{"job_id": "a", "command": "true"}]))
    assert code == 1, told
    assert "Traceback" not in told
    assert "No space left" in told or "full" in told
    ballast.unlink()
    assert bed.run("run", bed.root / "q.json")[0] == 0


def test_full_log_disk_delays_a_start_and_costs_no_attempt(bed: Bed, small_disk: Path) -> None:
    """A job whose logs can't be opened would fail, or use up a retry, for no fault of its own."""
    bed.logs = small_disk / "logs"
    go = bed.root / "go"
    document = bed.document(
        [waiting_job("a", go), {"job_id": "b", "command": "echo done", "depends_on": ["a"]}]
    )
    run = bed.start(bed.command("run", document))
    until(lambda: (bed.logs / "queues/q/jobs/a-stderr.log").exists(), "the first job")
    used = os.statvfs(small_disk)
    resize = ["mount", "-o", f"remount,nr_inodes={used.f_files - used.f_ffree}", small_disk]
    subprocess.run(resize, check=True)
    go.touch()
    reason = until(lambda: bed.job("b").get("reason"), "the reason in status")
    assert "No space left" in reason
    subprocess.run(["mount", "-o", "remount,nr_inodes=1000", small_disk], check=True)
    code, told = bed.finish(run)
    assert code == 0, told
    assert bed.job("b")["attempt"] == 1
    assert (bed.logs / "queues/q/jobs/b-stdout.log").read_text() == "done\n"


def test_full_results_disk_is_told_and_made_good(bed: Bed, small_disk: Path) -> None:
    """Results that found no room would be lost in silence, or fail a job that has completed."""
    bed.results = small_disk / "results"
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * (1 << 20))
    make = "head -c 3500000 /dev/urandom > big"
    document = bed.document([{"job_id": "a", "command": make, "result_paths": ["big"]}])
    code, told = bed.run("run", document, results=True, RUNNER_UPLOAD_TIMEOUT="100ms")
    assert code == 105, told
    job = bed.job("a")
    assert job["status"] == "completed"
    assert job["results_uploaded"] is False
    assert "No space left" in job["result_error"]
    assert not (bed.results / "jobs/a/big").exists()
    ballast.unlink()
    code, told = bed.run("run", document, results=True)
    assert code == 0, told
    assert (bed.results / "jobs/a/big").read_bytes() == (bed.root / "big").read_bytes()
    assert bed.job("a")["attempt"] == 1


def stored_queue(root: Path) -> QueuePaths:
    """A database with some records."""
    from dataclasses import replace

    from runner.core.states import PENDING, JobStatus

    paths = QueuePaths(root / "q")
    database.create(paths, '{"queue_name": "q", "jobs": []}', QueueState("run"), {"queue_id": "q"})
    opened = Database(paths.database)
    states = [(n, replace(PENDING, status=JobStatus.COMPLETED, attempt=1)) for n in range(400)]
    opened.commit(QueueState("run"), states, [], [])
    opened.close()
    return paths


def test_truncation_within_the_last_page_is_noticed(tmp_path: Path) -> None:
    """A state cut short would be read as a smaller one: completed jobs would run again."""
    paths = stored_queue(tmp_path)
    whole = paths.database.read_bytes()
    opened = Database(paths.database)
    full = opened.load(400)
    opened.close()
    noticed = 0
    for size in range(len(whole) - 4096, len(whole), 8):
        paths.database.write_bytes(whole[:size])
        try:
            opened = Database(paths.database)
            try:
                # What was cut off were zeros, and they are read as zeros.
                assert opened.load(400) == full
            finally:
                opened.close()
        except StateError as error:
            noticed += 1
            assert str(paths.database) in str(error)
        assert paths.database.read_bytes() == whole[:size]
    assert noticed > 250


@pytest.mark.parametrize("content", [b"", b"not a database at all\n" * 400, b"\0" * 8192])
def test_foreign_file_in_the_state_s_place_is_left_alone(bed: Bed, content: bytes) -> None:
    """What is not ours would be overwritten by a clean state."""
    document = bed.document([{"job_id": "a", "command": "true"}])
    path = bed.state / "queues/q/state.db"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    code, told = bed.run("run", document)
    assert code == 1, told
    assert str(path) in told
    assert "Traceback" not in told
    assert path.read_bytes() == content
    assert bed.run("run", document, "--fresh")[0] == 0


def test_fresh_over_an_unreadable_state_ends_what_still_runs(bed: Bed) -> None:
    """The former run's jobs would go on beside the new one's, and nobody would know of them."""
    document = bed.document([{"job_id": "a", "command": "test -e go || { touch go; sleep 60; }"}])
    run = bed.start(bed.command("run", document))
    until(lambda: (bed.root / "go").exists(), "the job")
    until(lambda: bed.job("a").get("pid"), "its pid")
    run.kill()
    run.wait()
    assert bed.attempts_alive()
    (bed.state / "queues/q/state.db").write_bytes(b"rubbish" * 1000)
    code, told = bed.run("run", document, "--fresh")
    assert code == 0, told
    until(lambda: not bed.attempts_alive(), "the end of the former run's job")


def test_read_only_state_folder_is_told(bed: Bed, small_disk: Path) -> None:
    """A state folder that can't be written would end in a traceback."""
    bed.state = small_disk
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    code, told = bed.run("run", bed.document([{"job_id": "a", "command": "true"}]))
    assert code == 1, told
    assert "Read-only file system" in told
    assert "Traceback" not in told


def test_second_run_names_the_first_and_a_stale_lock_stops_nobody(bed: Bed) -> None:
    """Two runs of one queue would run its jobs twice; a dead one's lock would need a hand."""
    go = bed.root / "go"
    document = bed.document([waiting_job("a", go)])
    first = bed.start(bed.command("run", document))
    until(lambda: (bed.logs / "queues/q/jobs/a-stdout.log").exists(), "the first job")
    code, told = bed.run("run", document)
    assert code == 1
    assert f"pid {first.pid}" in told
    first.kill()
    first.wait()
    go.touch()
    code, told = bed.run("run", document)
    assert code == 0, told
    assert bed.job("a")["attempt"] == 1


SHIFTED = """
import sys, time
real, shift, until = time.time, float(sys.argv[1]), time.monotonic() + 0.5
time.time = lambda: real() + (shift if time.monotonic() > until else 0)
from runner.cli.main import run_command
sys.exit(run_command(sys.argv[2:]))
"""


@pytest.mark.parametrize("shift", ["-86400", "86400"])
def test_clock_that_jumps_a_day_changes_no_deadline(bed: Bed, shift: str) -> None:
    """A clock set back would stretch a backoff to a day; one set forward would time jobs out."""
    document = bed.document(
        [
            {
                "job_id": "flaky",
                "command": "sleep 0.4; test $JOB_ATTEMPT -ge 2",
                "timeout": "20s",
                "retry": {"max_attempts": 2, "backoff": "fixed", "base_delay": "600ms"},
            },
            {"job_id": "b", "command": "sleep 0.2", "depends_on": ["flaky"]},
        ],
        global_timeout="25s",
    )
    launcher = [sys.executable, "-c", SHIFTED, shift, *bed.command("run", document)[3:]]
    code, told = bed.finish(bed.start(launcher))
    assert code == 0, told
    jobs = bed.status()["jobs"]
    assert [(job["status"], job["attempt"]) for job in jobs] == [("completed", 2), ("completed", 1)]
    assert all(0 < job["duration_seconds"] < 5 for job in jobs)


def test_forged_pid_of_a_stranger_is_neither_adopted_nor_signalled(bed: Bed) -> None:
    """A claim that names a living stranger would have it adopted, and killed at the timeout."""
    go = bed.root / "go"
    document = bed.document([waiting_job("a", go, timeout="5s")])
    run = bed.start(bed.command("run", document))
    until(lambda: (bed.logs / "queues/q/jobs/a-stdout.log").exists(), "the job")
    until(lambda: bed.job("a").get("pid"), "its pid")
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    stranger = bed.start(["sleep", "60"])
    fields = Path(f"/proc/{stranger.pid}/stat").read_text().rpartition(")")[2].split()
    slots = bed.state / "queues/q/attempts"
    raw = slots.read_bytes()
    offset = raw.index(b"claim ")
    words = raw[offset:].split(b"\n", 1)[0].split()
    shim = int(words[2])
    words[2], words[3] = str(stranger.pid).encode(), fields[19].encode()
    with open(slots, "r+b") as file:
        file.seek(offset)
        file.write((b" ".join(words) + b"\n").ljust(128))
    run = bed.start(bed.command("run", document))
    until(lambda: bed.job("a")["attempt"] == 2, "the second attempt")
    go.touch()
    code, told = bed.finish(run)
    assert code == 0, told
    assert stranger.poll() is None
    until(lambda: not Path(f"/proc/{shim}").exists(), "the end of the real shim")


def test_results_asked_for_later_or_elsewhere_are_stored(bed: Bed) -> None:
    """A ``--results`` that was forgotten, or pointed elsewhere, would need everything run anew."""
    document = bed.document([{"job_id": "a", "command": "echo out > f", "result_paths": ["f"]}])
    assert bed.run("run", document)[0] == 0
    for folder in ("first", "second"):
        bed.results = bed.root / folder
        code, told = bed.run("run", document, results=True)
        assert code == 0, told
        assert (bed.results / "jobs/a/f").read_text() == "out\n"
    assert bed.job("a")["attempt"] == 1
