"""One job's upload: complete, repeatable, and cut at any instant without harm."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from runner.results import file_copy
from runner.results.folder import FolderStore
from runner.results.layout import Layout
from runner.results.manifest import FileEntry, Manifest, parse_manifest
from runner.results.upload import job_upload, source_file
from runner.results.upload.job_upload import JobUpload, UploadOutcome, upload_job


class Scene:
    """A job's working folder, its logs, and a store."""

    def __init__(self, top: Path) -> None:
        self.work = top / "work"
        self.logs = top / "logs"
        self.results = top / "results"
        self.work.mkdir()
        self.logs.mkdir()

    def log(self, attempt: int) -> tuple[Path, Path]:
        paths = (self.logs / f"{attempt}.out", self.logs / f"{attempt}.err")
        for path in paths:
            if not path.exists():
                path.write_text(path.name)
        return paths

    def spec(self, **changes: Any) -> JobUpload:
        attempt = changes.get("attempt", 1)
        stdout, stderr = self.log(attempt)
        spec = JobUpload(
            job_id="j",
            run_id="run-1",
            epoch=1,
            attempt=attempt,
            completed=True,
            patterns=(),
            working_directory=str(self.work),
            stdout=stdout,
            stderr=stderr,
        )
        return dataclasses.replace(spec, **changes)

    def upload(self, **changes: Any) -> UploadOutcome:
        return upload_job(FolderStore(self.results), Layout(), self.spec(**changes))

    def manifest(self) -> Manifest:
        return parse_manifest((self.results / "jobs/j/manifest.json").read_bytes())

    def stored(self) -> dict[str, bytes]:
        top = self.results / "jobs/j"
        files = (path for path in top.rglob("*") if path.is_file())
        return {str(path.relative_to(top)): path.read_bytes() for path in files}

    def check(self) -> dict[str, FileEntry]:
        """What the manifest names is there, with these very bytes, and nothing else is."""
        manifest, stored = self.manifest(), self.stored()
        del stored["manifest.json"]
        for file in manifest.files:
            data = stored.pop(file.name)
            assert file.key == f"jobs/j/{file.name}"
            assert (file.size, file.sha256) == (len(data), hashlib.sha256(data).hexdigest())
        assert not stored
        return {file.name: file for file in manifest.files}


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_a_completed_jobs_files_and_logs_are_stored(scene: Scene) -> None:
    """The guide's layout would not be what users find."""
    (scene.work / "m.pt").write_text("model")
    earlier = ((1, *scene.log(1)),)
    outcome = scene.upload(attempt=2, patterns=("*.pt",), durable=True, earlier_attempts=earlier)
    assert outcome == UploadOutcome(ok=True, problems=(), files=5, bytes=5 + 4 * 5)
    files = scene.check()
    assert {name: file.attempt for name, file in files.items()} == {
        "m.pt": 2,
        "stdout.log": 2,
        "stderr.log": 2,
        "attempts/1/stdout.log": 1,
        "attempts/1/stderr.log": 1,
    }
    assert scene.stored()["stdout.log"] == b"2.out"
    assert scene.stored()["attempts/1/stderr.log"] == b"1.err"


def test_the_manifest_says_it_all(scene: Scene) -> None:
    """Whoever reads a manifest, ours or not, would miss a field or its meaning."""
    path = scene.work / "m.pt"
    path.write_text("model")
    path.chmod(0o600)
    os.utime(path, ns=(0, 1_600_000_000_000_000_007))
    scene.upload(patterns=("m.pt", "*.txt"))
    document = json.loads((scene.results / "jobs/j/manifest.json").read_text())
    logs = document["files"][1:]
    assert [file["name"] for file in logs] == ["stdout.log", "stderr.log"]
    assert document == {
        "schema_version": 1,
        "run_id": "run-1",
        "epoch": 1,
        "job_id": "j",
        "attempt": 1,
        "completed": True,
        "files": [
            {
                "key": "jobs/j/m.pt",
                "name": "m.pt",
                "size": 5,
                "sha256": hashlib.sha256(b"model").hexdigest(),
                "mtime": "2020-09-13T12:26:40.000000007Z",
                "mode": "0600",
                "source": str(path),
                "attempt": 1,
                "relative": "m.pt",
            },
            *logs,
        ],
        "problems": ["pattern '*.txt' matched nothing"],
        "missing": [{"path": "*.txt", "why": "pattern '*.txt' matched nothing"}],
    }
    assert parse_manifest(scene.manifest().to_bytes()) == scene.manifest()


def test_a_job_that_did_not_complete_stores_only_logs(scene: Scene) -> None:
    """Half-made results of a failed job would pass for good ones."""
    (scene.work / "m.pt").write_text("half")
    assert scene.upload(patterns=("*.pt",), completed=False).problems == ()
    assert set(scene.check()) == {"stdout.log", "stderr.log"}


def test_logs_are_linked_and_results_copied(scene: Scene) -> None:
    """A job that rewrites a result in place would change what is stored."""
    (scene.work / "m.pt").write_text("model")
    scene.upload(patterns=("*.pt",))
    stored = scene.results / "jobs/j"
    assert (stored / "stdout.log").samefile(scene.logs / "1.out")
    assert not (stored / "m.pt").samefile(scene.work / "m.pt")


def test_logs_that_still_grow_are_copied_and_taken_again(scene: Scene) -> None:
    """A background server's log would stop at its job's end, or differ from its manifest."""
    scene.upload(logs_final=False)
    with (scene.logs / "1.out").open("a") as log:
        log.write("more")
    assert scene.stored()["stdout.log"] == b"1.out"
    scene.upload(logs_final=False)
    assert scene.stored()["stdout.log"] == b"1.outmore"
    scene.check()


def test_results_are_not_read_again_with_the_logs(scene: Scene) -> None:
    """A server's last words would bring what a dependant has made of its results with them."""
    (scene.work / "m.pt").write_text("model")
    scene.upload(patterns=("*.pt",), logs_final=False)
    (scene.work / "m.pt").write_text("changed")
    with (scene.logs / "1.out").open("a") as log:
        log.write("more")
    scene.upload(patterns=("*.pt",), logs_final=False)
    assert (scene.stored()["m.pt"], scene.stored()["stdout.log"]) == (b"model", b"1.outmore")
    scene.check()


def test_a_repeated_upload_changes_nothing(scene: Scene) -> None:
    """After a reboot the repetition of an unconfirmed upload would delete what was stored."""
    (scene.work / "m.pt").write_text("model")
    first = scene.upload(patterns=("*.pt",), durable=True)
    before = scene.stored()
    (scene.work / "m.pt").unlink()
    (scene.logs / "1.out").unlink()
    assert (
        upload_job(
            FolderStore(scene.results),
            Layout(),
            dataclasses.replace(scene.spec(patterns=("*.pt",), durable=True), epoch=2),
        )
        == first
    )
    assert scene.stored() == before


def test_what_is_gone_here_but_stored_is_kept(scene: Scene) -> None:
    """A second upload of one attempt would lose results whose sources are gone."""
    (scene.work / "m.pt").write_text("model")
    scene.upload(patterns=("*.pt",), logs_final=False)
    (scene.work / "m.pt").unlink()
    os.unlink(scene.logs / "1.err")
    spec = dataclasses.replace(scene.spec(patterns=("*.pt",), logs_final=False))
    os.unlink(scene.logs / "1.err")
    assert upload_job(FolderStore(scene.results), Layout(), spec).ok
    assert set(scene.check()) == {"m.pt", "stdout.log", "stderr.log"}


def test_what_somebody_removed_from_the_store_comes_back(scene: Scene) -> None:
    """A manifest would name files that aren't there."""
    (scene.work / "m.pt").write_text("model")
    scene.upload(patterns=("*.pt",))
    (scene.results / "jobs/j/m.pt").unlink()
    scene.upload(patterns=("*.pt",))
    assert set(scene.check()) == {"m.pt", "stdout.log", "stderr.log"}


def test_a_new_run_leaves_nothing_of_the_old(scene: Scene) -> None:
    """Results of two runs would mix."""
    (scene.work / "old").mkdir()
    (scene.work / "old" / "x").write_text("1")
    (scene.work / "both").write_text("1")
    scene.upload(patterns=("old", "both"), attempt=2, earlier_attempts=((1, *scene.log(1)),))
    (scene.work / "old" / "x").unlink()
    (scene.work / "both").unlink()
    (scene.work / "both").mkdir()
    (scene.work / "both" / "y").write_text("2")
    (scene.work / "old").rmdir()
    (scene.work / "old").write_text("2")
    scene.upload(run_id="run-2", patterns=("old", "both"))
    assert set(scene.check()) == {"old", "both/y", "stdout.log", "stderr.log"}


def test_a_machine_that_comes_back_late_changes_nothing(scene: Scene) -> None:
    """An old machine would overwrite the results of the one that took over."""
    scene.upload(epoch=2)
    before = scene.stored()
    outcome = scene.upload(epoch=1, attempt=2)
    assert not outcome.ok
    assert "epoch 2" in outcome.problems[0]
    assert scene.stored() == before


def test_a_broken_manifest_is_replaced(scene: Scene) -> None:
    """A manifest cut by a power failure would keep a job's results from ever being stored."""
    for broken in [b"", b"{", b"[]", b"null", b'{"schema_version": 1}', b"\xff", b"[" * 100_000]:
        scene.upload()
        (scene.results / "jobs/j/manifest.json").write_bytes(broken)
        assert scene.upload().ok
        scene.check()


def test_problems_are_told_in_outcome_and_manifest(scene: Scene) -> None:
    """What was left out, and why, would be known to nobody."""
    os.mkfifo(scene.work / "fifo")
    spec = dataclasses.replace(scene.spec(patterns=("*", "gone")), stdout=scene.logs / "none")
    outcome = upload_job(FolderStore(scene.results), Layout(), spec)
    assert outcome.ok
    assert outcome.problems == (
        f"'{scene.work}/fifo' is a fifo: left out",
        "pattern '*' matched nothing that can be stored",
        "pattern 'gone' matched nothing",
        f"'{scene.logs}/none' can't be read: No such file or directory: left out",
    )
    assert scene.manifest().problems == outcome.problems
    assert outcome.missing == outcome.problems[1:3], "a log is no result"


def test_what_was_missing_is_stored_later_if_it_was_the_jobs(scene: Scene) -> None:
    """A file that somebody has put right would never be stored; or a later one in its stead."""
    (scene.work / "a.pt").write_text("first")
    spec = {"patterns": ("*.pt", "out/*.csv", "gone"), "ended_at": time.time()}
    first = scene.upload(**spec)
    assert [text.split("'")[1] for text in first.missing] == ["out/*.csv", "gone"]
    before = scene.stored()
    assert scene.upload(**spec) == first
    assert scene.stored() == before
    (scene.work / "out").mkdir()
    for name, seconds in (("mine.csv", -10), ("late.csv", 60)):
        (scene.work / "out" / name).write_text(name)
        os.utime(scene.work / "out" / name, (spec["ended_at"] + seconds,) * 2)
    (scene.work / "a.pt").write_text("changed")
    (scene.work / "b.pt").write_text("more")
    assert scene.upload(**spec).missing == ("pattern 'gone' matched nothing",)
    assert set(scene.check()) == {"a.pt", "mine.csv", "stdout.log", "stderr.log"}
    assert scene.stored()["a.pt"] == b"first"
    assert scene.manifest().problems == ("pattern 'gone' matched nothing",)


@pytest.mark.parametrize("swap", ["gone", "a link", "a folder"])
def test_a_result_that_goes_while_it_is_stored_is_missing(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, swap: str
) -> None:
    """A declared file would be in no store and everything be green."""
    (scene.work / "m.pt").write_text("model")
    find = job_upload.collect

    def collect(*args: Any, **more: Any) -> Any:
        found = find(*args, **more)
        (scene.work / "m.pt").unlink()
        if swap == "a link":
            (scene.work / "m.pt").symlink_to("/etc/hostname")
        elif swap == "a folder":
            (scene.work / "m.pt").mkdir()
        return found

    monkeypatch.setattr(job_upload, "collect", collect)
    outcome = scene.upload(patterns=("*.pt",))
    assert outcome.ok and len(outcome.missing) == 1
    assert outcome.missing[0].startswith(f"'{scene.work}/m.pt' ")
    assert parse_manifest(scene.manifest().to_bytes()).missing[0].path == f"{scene.work}/m.pt"


def test_files_from_before_the_job_are_told(scene: Scene) -> None:
    """What an earlier run has left would be taken for this one's."""
    began = time.time()
    for name, seconds in (("old", -3600), ("just", 0)):
        (scene.work / name).write_text(name)
        os.utime(scene.work / name, (began + seconds,) * 2)
    os.utime(scene.log(1)[0], (0, 0))
    for _ in range(2):
        outcome = scene.upload(patterns=("*",), first_start=began)
        assert (outcome.stale, outcome.missing) == (("old",), ())


@pytest.mark.parametrize("how", ["removed", "cut"])
def test_parts_of_a_log_stay_until_all_of_it_is_stored(scene: Scene, how: str) -> None:
    """A job that cleans up would take with it what was safe: its own log, stored while it ran."""
    store, layout = FolderStore(scene.results), Layout()
    parts = {}
    for attempt, stream in ((1, "stdout"), (2, "stdout"), (2, "stderr")):
        for offset in (0, 4):
            key = layout.log_part_key("j", attempt, stream, offset)
            parts[key] = b"ABCD"
            store.put_bytes(key, b"ABCD")
    spec = scene.spec(attempt=2, earlier_attempts=((1, scene.logs / "no", scene.logs / "nor"),))
    (scene.logs / "2.err").write_text("ABCDABCD and more")
    if how == "cut":
        (scene.logs / "2.out").write_text("AB")
    else:
        (scene.logs / "2.out").unlink()
    for _ in range(2):
        assert upload_job(store, layout, spec).ok
        kept = {entry.key for entry in store.list("") if entry.key in parts}
        assert kept == {key for key in parts if "stderr" not in key}
        assert store.get_bytes(layout.stderr_key("j")) == b"ABCDABCD and more"


@pytest.mark.skipif(not os.path.exists("/proc/version"), reason="there is no procfs")
def test_files_without_a_size_are_read_to_their_end(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the kernel says of the machine a job ran on would be stored as empty files."""
    version = Path("/proc/version").read_bytes()
    (scene.work / "empty").touch()
    patterns = ("/proc/version", "empty", f"/proc/{os.getpid()}/status")
    outcome = scene.upload(patterns=patterns, first_start=time.time())
    assert outcome.stale == (), "its time is when the machine was booted, or first looked"
    assert (scene.stored()["version"], scene.stored()["empty"]) == (version, b"")
    assert scene.check()["version"].size == len(version)
    assert len(outcome.missing) == 1 and "this process" in outcome.missing[0]
    monkeypatch.setattr(source_file, "MOST_WITHOUT_SIZE", len(version) - 1)
    outcome = scene.upload(run_id="run-2", patterns=("/proc/version",))
    assert "too large" in outcome.missing[0]


def test_very_many_problems_are_counted(scene: Scene) -> None:
    """A job with 100,000 links would make a state and a message nobody can load."""
    for number in range(1_100):
        (scene.work / f"{number}").symlink_to("nowhere")
    problems = scene.upload(patterns=("*",)).problems
    assert len(problems) == 1_001
    assert problems[-1] == "… (101 more)"


def test_the_stores_own_folder_is_not_collected(scene: Scene) -> None:
    """Each upload would store all results stored before, again."""
    (scene.work / "a").write_text("a")
    spec = scene.spec(patterns=("**",))
    store = FolderStore(scene.work / "results")
    for run in "12":
        upload_job(store, Layout(), dataclasses.replace(spec, run_id=run))
    names = {entry.key for entry in store.list("")}
    assert names == {
        f"jobs/j/{name}" for name in ("a", "stdout.log", "stderr.log", "manifest.json")
    }


def test_no_room_is_an_outcome_and_can_be_repeated(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk would raise in the engine, or leave results that look complete."""
    (scene.work / "big").write_bytes(b"x" * 100_000)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(file_copy, "write_at", full)
        outcome = scene.upload(patterns=("big",), durable=True)
    assert (outcome.ok, outcome.files, outcome.bytes) == (False, 0, 0)
    assert outcome.problems[0].endswith("No space left on device")
    assert scene.stored() == {}
    assert scene.upload(patterns=("big",), durable=True).ok
    assert set(scene.check()) == {"big", "stdout.log", "stderr.log"}


def _upload_until_call(scene: Scene, call: int, **changes: Any) -> bool:
    """Upload in a child that is killed at its `call`-th system call; False if it ended before."""
    if child := os.fork():
        return os.WIFSIGNALED(os.waitpid(child, 0)[1])
    left = call

    def count(_: object, event: str, function: Any) -> None:
        nonlocal left
        if event == "c_call" and function.__module__ == "posix":
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)

    try:
        sys.setprofile(count)
        scene.upload(**changes)
    finally:
        os._exit(0)


@pytest.mark.long
def test_killed_at_any_step_it_ends_the_same(tmp_path: Path) -> None:
    """After a kill a result would be half, missing, or followed by rubbish for ever."""
    call, killed = 1, True
    while killed:
        top = tmp_path / f"{call}"
        top.mkdir()
        scene = Scene(top)
        (scene.work / "d").mkdir()
        (scene.work / "a").write_text("old a")
        (scene.work / "d" / "b").write_text("old b")
        scene.upload(run_id="run-0", patterns=("a", "d"))
        (scene.work / "a").unlink()
        (scene.work / "d" / "b").write_text("new b")
        (scene.work / "c").write_text("new c")
        after = {"attempt": 2, "earlier_attempts": ((1, *scene.log(1)),), "durable": True}
        scene.log(2)
        killed = _upload_until_call(scene, call, patterns=("?",), **after)
        if scene.manifest().run_id == "run-1":
            for file in scene.manifest().files:
                data = (scene.results / file.key).read_bytes()
                assert hashlib.sha256(data).hexdigest() == file.sha256
        assert scene.upload(patterns=("?",), **after).ok
        assert set(scene.check()) == {
            "d/b",
            "c",
            "stdout.log",
            "stderr.log",
            "attempts/1/stdout.log",
            "attempts/1/stderr.log",
        }
        call += 1
    assert call > 50


def test_a_job_without_results_costs_little(tmp_path: Path) -> None:
    """A queue of 1,000 no-op jobs would spend its time on storing empty logs."""
    scene = Scene(tmp_path)
    specs = [
        dataclasses.replace(scene.spec(attempt=number), job_id=f"j{number}")
        for number in range(300)
    ]
    store = FolderStore(scene.results)
    start = time.process_time()
    for spec in specs:
        assert upload_job(store, Layout(), spec).ok
    assert (time.process_time() - start) / len(specs) < 0.002  # 0.2 ms, with room for slow machines
