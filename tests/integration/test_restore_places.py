"""What is brought back from a store: where the job's patterns look here, and nowhere else."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner.results.checkpoint import BroughtBack, JobCheckpoint, restore_checkpoint
from runner.results.contained_folder import Beneath
from runner.results.download.download_plan import LogPart, Planner
from runner.results.download.restore import Restored, RestoreRequest, restore_job
from runner.results.file_placement import make_folders
from runner.results.folder import FolderStore
from runner.results.layout import Layout
from runner.results.manifest import parse_manifest
from runner.results.stored_queue import read_queue
from runner.results.upload.job_upload import JobUpload, upload_job

LAYOUT = Layout()
MANIFEST = "jobs/j/manifest.json"


class Scene:
    """A job of ``old``, whose result ``out/f`` is stored, and another machine's folder ``new``."""

    def __init__(self, top: Path) -> None:
        self.top, self.old, self.new = top, top / "old", top / "new"
        self.store = FolderStore(top / "store")
        (self.old / "out").mkdir(parents=True)
        self.new.mkdir()
        (self.old / "out/f").write_text("result")
        log = top / "log"
        log.touch()
        spec = JobUpload("j", "run", 1, 1, True, ("out/*",), str(self.old), log, log)
        assert upload_job(self.store, LAYOUT, spec).ok

    def change(self, change: Callable[[dict[str, Any]], None]) -> None:
        """Have the manifest say something else of the result."""
        data = self.store.get_bytes(MANIFEST)
        assert data is not None
        manifest = json.loads(data)
        change(next(file for file in manifest["files"] if file["name"] == "f"))
        self.store.put_bytes(MANIFEST, json.dumps(manifest).encode())

    def restore(self, *patterns: str) -> Restored:
        wanted = RestoreRequest("j", "run", 1, patterns or ("out/*",), str(self.new))
        return restore_job((self.store,), LAYOUT, wanted)

    def restore_checkpoint(self) -> BroughtBack:
        """The same manifest as a checkpoint's."""
        data = self.store.get_bytes(MANIFEST)
        assert data is not None
        manifest = json.loads(data)
        manifest["files"] = [file for file in manifest["files"] if file["name"] == "f"]
        self.store.put_bytes("jobs/j/checkpoint/manifest.json", json.dumps(manifest).encode())
        spec = JobCheckpoint("j", "run", 1, ("out/*",), str(self.new))
        return restore_checkpoint(self.store, LAYOUT, spec, lambda: None)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_outputs_come_back_with_the_results_and_are_none(scene: Scene) -> None:
    """A dependant would find nothing after a reboot, or `runner results` fetch what is none."""
    (scene.old / "parts").mkdir()
    (scene.old / "parts/f").write_text("part")
    spec = JobUpload(
        "j", "run", 1, 2, True, ("out/*", "parts/*", "out/f"), str(scene.old), scene.top / "log",
        scene.top / "log", results=1,
    )  # fmt: skip
    assert upload_job(scene.store, LAYOUT, spec).ok
    assert upload_job(scene.store, LAYOUT, spec).ok, "the second time it is known"
    data = scene.store.get_bytes(MANIFEST)
    assert data is not None
    files = {file.source: file for file in parse_manifest(data).files if file.attempt == 2}
    outputs = {source for source, file in files.items() if file.output}
    assert outputs == {str(scene.old / "parts/f")} and str(scene.old / "out/f") in files
    wanted = RestoreRequest("j", "run", 2, ("out/*", "parts/*"), str(scene.new))
    assert restore_job((scene.store,), LAYOUT, wanted) == Restored(2)
    assert (scene.new / "parts/f").read_text() == "part"
    jobs = [{"job_id": "j", "status": "completed", "attempt": 2}]
    told = {"queue_id": "q", "run_id": "run", "status": "completed", "jobs": jobs}
    scene.store.put_bytes(LAYOUT.state_key, json.dumps(told).encode())
    queue = read_queue(scene.store, LAYOUT)
    plan = Planner(scene.store, queue, LogPart.RESULTS, live=False).plan(queue.jobs["j"])
    assert [file.what.source for file in plan.files.values()] == [str(scene.old / "out/f")]  # type: ignore[union-attr]


@pytest.mark.parametrize("old_manifest", [False, True])
def test_results_come_back_in_the_working_directory_here(scene: Scene, old_manifest: bool) -> None:
    """They would be written to the other machine's folder, and told as restored."""
    if old_manifest:
        scene.change(lambda file: file.pop("relative"))
    (scene.old / "out/f").unlink()
    assert scene.restore() == Restored(1)
    assert (scene.new / "out/f").read_text() == "result"
    assert not (scene.old / "out/f").exists()
    assert scene.restore() == Restored(0), "it is all there"
    (scene.new / "out/f").unlink()
    assert scene.restore_checkpoint() == BroughtBack(1)
    assert (scene.new / "out/f").read_text() == "result"


@pytest.mark.parametrize(
    "told",
    [
        {"source": "{top}/target", "relative": None},
        {"source": "{top}/new/other", "relative": "other"},
        {"source": "{top}/new/out/../../target", "relative": "out/../../target"},
        {"relative": "out/a/../../../target"},
        {"relative": "{top}/target"},
        {"relative": "out/%2E%2E/%2E%2E/target"},
    ],
)
def test_nothing_is_written_that_no_pattern_names(scene: Scene, told: dict[str, Any]) -> None:
    """Who may write to the bucket could replace any file of the job's user."""
    (scene.old / "out/f").unlink()
    texts = {name: text and text.format(top=scene.top) for name, text in told.items()}
    scene.change(lambda file: file.update(texts))
    for lost in (scene.restore().lost, scene.restore_checkpoint().lost):
        assert lost is not None and "no pattern of the job would find it here" in lost
    assert not (scene.top / "target").exists() and list(scene.new.iterdir()) == []


def test_a_source_is_not_believed_beside_a_relative_place(scene: Scene) -> None:
    """The other machine's path would be written to here as well."""
    scene.change(lambda file: file.update(source=f"{scene.top}/target"))
    assert scene.restore() == Restored(1)
    assert not (scene.top / "target").exists() and (scene.new / "out/f").exists()


def test_one_file_that_belongs_nowhere_refuses_them_all(scene: Scene) -> None:
    """Half of a checkpoint would be taken for one."""
    (scene.old / "out/g").write_text("more")
    log = scene.top / "log"
    spec = JobUpload("j", "run", 1, 2, True, ("out/*",), str(scene.old), log, log)
    assert upload_job(scene.store, LAYOUT, spec).ok
    data = scene.store.get_bytes(MANIFEST)
    assert data is not None
    manifest = json.loads(data)
    next(file for file in manifest["files"] if file["name"] == "g")["relative"] = "../g"
    scene.store.put_bytes(MANIFEST, json.dumps(manifest).encode())
    wanted = RestoreRequest("j", "run", 2, ("out/*",), str(scene.new))
    restored = restore_job((scene.store,), LAYOUT, wanted)
    assert restored.files == 0 and restored.lost is not None
    assert list(scene.new.iterdir()) == []


def test_no_link_below_a_pattern_is_followed(scene: Scene) -> None:
    """A link that is left in a job's folder would lead a restore out of it."""
    scene.change(lambda file: file.update(relative="out/sub/f"))
    (scene.top / "elsewhere").mkdir()
    (scene.new / "out").mkdir()
    (scene.new / "out/sub").symlink_to(scene.top / "elsewhere")
    lost = scene.restore("out/**").lost
    assert lost is not None and "a link is on the way" in lost
    assert os.listdir(scene.top / "elsewhere") == []
    (scene.new / "out/sub").unlink()
    (scene.new / "out/sub").mkdir()
    (scene.new / "out/sub/f").symlink_to(scene.top / "nothing")
    assert scene.restore("out/**") == Restored(1)
    assert not (scene.new / "out/sub/f").is_symlink(), "the link itself is replaced"
    assert not (scene.top / "nothing").exists()


@pytest.mark.parametrize("path", [b"", b"..", b"a/../b", b"/a", b"a//b", b"a/", b"./a", b"a\0"])
def test_no_path_leaves_the_folder(tmp_path: Path, path: bytes) -> None:
    """What a manifest or a bucket names would be written next to the folder, or above it."""
    with Beneath.open(os.fsencode(tmp_path)) as folder:
        for use in (folder.stat, folder.lstat, folder.open_file):
            with pytest.raises(ValueError, match="is no path below a folder"):
                use(path)
        with pytest.raises(ValueError, match="is no path"):
            folder.replacing(path, durable=False).__enter__()


def test_a_depth_that_no_path_has_is_reached(tmp_path: Path) -> None:
    """PATH_MAX is a limit of one call, not of what a job can make."""
    deep = b"/".join([b"d" * 200] * 60 + [b"f"])
    with Beneath.open(os.fsencode(tmp_path)) as folder:
        with folder.replacing(deep, durable=False) as fd:
            os.write(fd, b"x")
        assert folder.lstat(deep).st_size == 1
        os.close(folder.open_file(deep))


def test_folders_of_any_depth_are_made(tmp_path: Path) -> None:
    """A result that lay 1,800 folders deep would end its restoring with a RecursionError."""
    deep = os.fsencode(tmp_path) + b"/a" * 1800
    try:
        make_folders(deep)
        assert os.path.isdir(deep)
        make_folders(deep)
    finally:
        subprocess.run(["rm", "-rf", tmp_path / "a"], check=True)
    (tmp_path / "file").touch()
    for taken in (b"/file", b"/file/below"):
        with pytest.raises(NotADirectoryError):
            make_folders(os.fsencode(tmp_path) + taken)
