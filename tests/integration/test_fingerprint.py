"""A job is left out only if nothing that it depends on has changed, and always if nothing has."""

from __future__ import annotations

import os
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fingerprints import (
    CHANGES,
    MEANWHILE,
    MEMORY,
    NO_CHANGES,
    Job,
    nothing,
    same_time,
    write,
)

from runner.results.fingerprint.examination import complete, seal
from runner.results.fingerprint.hash_cache import HashCache
from runner.results.fingerprint.hashing import ChangedMeanwhileError, hash_all, hash_file
from runner.results.fingerprint.walk import Signature, walk


@pytest.fixture
def job() -> Iterator[Job]:
    """One that has run, so that it isn't run again while nothing changes."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        yield from has_run(Path(folder))


def has_run(top: Path) -> Iterator[Job]:
    made = Job(top)
    write(made, "in/a", "one")
    write(made, "in/deep/b", "two")
    write(made, "named", "three")
    assert made.run() and not made.run() and not made.run()
    yield made
    made.cache.close()


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_runs_the_job_again_once(job: Job, name: str) -> None:
    """What the job would make now is not what it made, and nobody would make it."""
    CHANGES[name](job)
    assert job.run(), name
    assert (job.work / "out/result").read_text() == job.made()
    assert not job.run(), "and then never again"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("other bytes", '"in/a" changed'),
        ("a new file", '"in/new" new'),
        ("a file gone", '"in/a" gone'),
        ("the command", "command differs"),
        ("a variable", "env.A differs"),
        ("a result edited", 'result "out/result" changed'),
        ("a result gone", 'result "out/result" gone, and is not in the result store'),
        ("a result more", 'result "out/third" new'),
    ],
)
def test_what_has_changed_is_named(job: Job, change: str, told: str) -> None:
    """A job would run for hours again, and nobody know why."""
    CHANGES[change](job)
    assert job.look().why == told


@pytest.mark.parametrize("name", NO_CHANGES)
def test_what_changes_no_content_runs_nothing(job: Job, name: str) -> None:
    """A checkout or a copy of the folder would cost a day of computing."""
    NO_CHANGES[name](job)
    assert not job.run(), job.look().why


def test_links_are_followed(job: Job) -> None:
    """Data that lies elsewhere, behind links, could change unseen; a circle of them end nothing."""
    write(job, "../far/data/x", "1")
    (job.work / "links/file").symlink_to(job.top / "far/data/x")
    (job.work / "links/folder").symlink_to(job.top / "far/data")
    (job.work / "links/circle").symlink_to(job.work / "links")
    assert job.run() and not job.run()
    write(job, "../far/data/x", "2")
    assert job.run() and not job.run()
    write(job, "../far/data/y", "")
    assert job.look().why == '"links/folder/y" new'
    write(job, "../other/x", "2")
    (job.work / "links/file").unlink()
    (job.work / "links/file").symlink_to(job.top / "other/x")
    assert job.run(), "it leads elsewhere now"


@pytest.mark.parametrize("name", MEANWHILE)
def test_what_changes_while_the_job_runs_is_never_passed_over(job: Job, name: str) -> None:
    """Nobody knows which of the two the job has read, and its result would pass for the new one."""
    write(job, "in/other", "run")
    assert job.run(lambda: CHANGES[name](job) and None)
    assert job.run(), "the state that it ended with is not the one that it began with"
    assert not job.run()


def test_a_change_in_the_very_tick_of_the_look_is_seen(job: Job) -> None:
    """Size and times stay the same when a file is written to right after it was hashed."""
    for number in range(10):
        write(job, "in/a", f"{number:05}")
        found = job.run(lambda number=number: same_time(job.work / "in/a", f"x{number:04}"))
        assert found
        assert job.run(), number
        assert (job.work / "out/result").read_text() == job.made()


def test_an_attempt_that_fails_leaves_the_last_completed_run(job: Job) -> None:
    """The record of a run that has failed would pass for one that has not."""
    write(job, "in/a", "bad")
    assert job.run(fails=True) and job.run(fails=True)
    write(job, "in/a", "one")
    assert job.run(), "its results are those of the attempt that failed"
    assert not job.run()


def test_without_results_a_failure_counts(tmp_path: Path) -> None:
    """What such a job does can't be looked at: after a failed run it is not known to be done."""
    job = Job(tmp_path, results=())
    write(job, "in/a", "good")
    assert job.run() and not job.run()
    write(job, "in/a", "bad")
    assert job.run(fails=True)
    write(job, "in/a", "good")
    assert job.run() and not job.run()


def test_what_cannot_be_read_is_never_unchanged(job: Job) -> None:
    """A file that is refused could have changed; it has to be told, and not to end the queue."""
    fifo = job.work / "in/fifo"
    os.mkfifo(fifo)
    assert job.run() and not job.run(), "one that is no file is known by its kind"
    fifo.unlink()
    (job.work / "in/loop").symlink_to("loop")
    assert job.run() and job.run()
    assert "can't be read: Too many levels" in (job.look().why or "")


@pytest.mark.parametrize(
    "kind",
    ["garbage", "cut", "empty", pytest.param("locked", marks=pytest.mark.long), "read-only"],
)
def test_a_damaged_cache_costs_time_only(job: Job, kind: str) -> None:
    """A cache that can't be read would end the queue, or be believed."""
    job.cache.close()
    path = job.top / "cache" / "hashes.db"
    whole = path.read_bytes()
    if kind == "locked":
        holder = sqlite3.connect(path)
        holder.execute("BEGIN EXCLUSIVE")
    elif kind == "read-only":
        path.unlink()
        path.parent.rmdir()
        path.parent.write_text("a file")
    else:
        path.write_bytes({"garbage": b"x" * 5000, "cut": whole[:1000], "empty": b""}[kind])
    job.cache = HashCache(path)
    assert not job.run()
    write(job, "in/a", "new")
    assert job.run() and not job.run()
    if kind == "locked":
        holder.close()


def test_damaged_records_count_for_nothing(job: Job) -> None:
    """A record that was cut short would be believed, or end the queue."""
    record = job.top / "store/jobs/j/fingerprint.json.gz"
    whole = record.read_bytes()
    for data in (b"", whole[:-9], b"x" * 200, whole[:20]):
        record.write_bytes(data)
        assert job.look().unchanged is None
    record.write_bytes(whole)
    assert job.look().unchanged is not None


def test_only_what_is_settled_is_remembered(tmp_path: Path) -> None:
    """A hash would be believed of a file that was written to in the tick of its hashing."""
    cache = HashCache(tmp_path / "c.db")
    (tmp_path / "f").write_text("x")
    found = os.stat(tmp_path / "f")
    signature = Signature.of(found)
    told = found.st_ctime_ns / 1e9
    assert not cache.is_settled(signature, found.st_dev, told + 0.01)
    assert cache.is_settled(signature, found.st_dev, told + 1.0)
    coarse = signature._replace(ctime_ns=found.st_ctime_ns // 10**9 * 10**9)
    assert not cache.is_settled(coarse, found.st_dev, told + 1.0), "FAT has 2 s"
    ahead = signature._replace(mtime_ns=signature.mtime_ns + 3600 * 10**9)
    assert not cache.is_settled(ahead, found.st_dev, told + 60), "a clock that is ahead"
    seen = walk(["f"], str(tmp_path)).found
    hash_all(seen, cache)
    assert cache.known({str(tmp_path / "f"): signature}) == {}
    old = time.time() - 100
    os.utime(tmp_path / "f", (old, old))
    deadline = time.time() + 10
    while not cache.known(wanted := {str(tmp_path / "f"): Signature.of(os.stat(tmp_path / "f"))}):
        assert time.time() < deadline
        hash_all(walk(["f"], str(tmp_path)).found, cache)
    assert set(cache.known(wanted)) == {str(tmp_path / "f")}
    cache.close()


def test_a_file_that_is_being_written_is_not_hashed(tmp_path: Path) -> None:
    """The hash would be of bytes that never were in the file together."""
    path = tmp_path / "f"
    path.write_text("before")
    signature = Signature.of(os.stat(path))
    path.write_text("behind!")
    with pytest.raises(ChangedMeanwhileError):
        hash_file(str(path), signature)
    large = tmp_path / "large"
    large.write_bytes(b"x" * (200 << 20))

    def grow() -> None:
        with large.open("ab") as file:
            file.write(b"y")

    with pytest.raises(ChangedMeanwhileError):
        hash_file(str(large), Signature.of(os.stat(large)), grow)


def test_kills_between_the_steps_cost_a_run_at_most(job: Job) -> None:
    """A record of half a run would pass for a whole one."""
    write(job, "in/a", "new")
    job.runs += 1
    subject = job.subject()
    assert job.look().unchanged is None
    job.make()
    # Killed before its end was seen: the record is still the one before, and says what differs.
    assert job.run() and not job.run()
    write(job, "in/a", "newer")
    job.runs += 1
    subject = job.subject()
    assert job.look().unchanged is None
    job.make()
    assert seal(subject, 1, job.cache) == ()
    # Killed before its end counted. The next session completes it, whatever came in between.
    write(job, "out/result", "by hand")
    assert not complete(subject, 1, job.store, job.cache, nothing)
    assert job.run() and not job.run()
