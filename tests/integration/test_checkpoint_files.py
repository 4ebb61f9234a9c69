"""A checkpoint in a store: whole or the older one, and back only where nothing newer is."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from s3_endpoint import Endpoint

from runner.results.checkpoint import (
    BroughtBack,
    JobCheckpoint,
    Saved,
    restore_checkpoint,
    save_checkpoint,
)
from runner.results.folder import FolderStore
from runner.results.layout import Layout
from runner.results.store import ResultStore, Stored, StoreError
from runner.results.upload.source_file import SourceFile


class Scene:
    """A job's working folder and a store; ``spec`` is attempt 1's unless told otherwise."""

    def __init__(self, work: Path, store: ResultStore) -> None:
        self.work = work
        self.store = store

    def spec(self, **more: Any) -> JobCheckpoint:
        told = {"job_id": "j", "run_id": "run-1", "attempt": 1, "epoch": 1, **more}
        return JobCheckpoint(patterns=("ckpt/**", "last"), working_directory=str(self.work), **told)

    def save(self, **more: Any) -> Saved:
        return save_checkpoint(self.store, Layout(), self.spec(**more))

    def restore(self, **more: Any) -> BroughtBack:
        return restore_checkpoint(self.store, Layout(), self.spec(**more), lambda: None)

    def write(self, **files: str) -> None:
        for name, text in files.items():
            path = self.work / name.replace("_", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def files(self) -> dict[str, str]:
        found = (path for path in self.work.rglob("*") if path.is_file())
        return {str(path.relative_to(self.work)): path.read_text() for path in found}

    def empty(self) -> None:
        for path in sorted(self.work.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()

    def keys(self) -> set[str]:
        return {entry.key for entry in self.store.list("jobs/j/checkpoint/")}


@pytest.fixture(params=["folder", "s3"])
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Scene]:
    work = tmp_path / "work"
    work.mkdir()
    if request.param == "folder":
        yield Scene(work, FolderStore(tmp_path / "results"))
        return
    from runner.results.s3.store import S3Store

    endpoint: Endpoint = request.getfixturevalue("endpoint")
    patch: pytest.MonkeyPatch = request.getfixturevalue("monkeypatch")
    for name, value in endpoint.env.items():
        patch.setenv(name, value)
    store = S3Store(endpoint.bucket(), "queues/q")
    yield Scene(work, store)
    store.close()


def test_what_was_saved_comes_back_on_an_empty_disk(scene: Scene) -> None:
    """The next machine would begin from nothing; or with other times than a trainer compares."""
    scene.write(ckpt_a_1="one", ckpt_2="two", last="2")
    os.chmod(scene.work / "last", 0o640)
    os.utime(scene.work / "last", ns=(1, 1_600_000_000_123_456_789))
    assert scene.save() == Saved(3, 7)
    before = scene.files()
    scene.empty()
    assert scene.restore() == BroughtBack(3)
    assert scene.files() == before
    found = (scene.work / "last").stat()
    assert (found.st_mode & 0o777, found.st_mtime_ns) == (0o640, 1_600_000_000_123_456_789)
    assert scene.restore() == BroughtBack(0), "it is all there"


def test_what_is_there_is_never_written_over(scene: Scene) -> None:
    """A job would lose what it has saved since."""
    scene.write(ckpt_1="one", last="1")
    scene.save()
    scene.write(last="changed")
    (scene.work / "ckpt/1").unlink()
    assert scene.restore() == BroughtBack(1)
    assert scene.files() == {"ckpt/1": "one", "last": "changed"}


def test_a_later_attempts_files_stand_without_the_older_ones(scene: Scene) -> None:
    """A checkpoint that a later attempt has removed would be beside its newer ones again."""
    scene.write(ckpt_1="one")
    scene.save()
    (scene.work / "ckpt/1").unlink()
    scene.write(ckpt_2="two")
    assert scene.restore(attempt=2) == BroughtBack(0)
    assert scene.files() == {"ckpt/2": "two"}
    scene.empty()
    assert scene.restore(attempt=2) == BroughtBack(1), "all of it is gone"


def test_a_newer_checkpoint_takes_the_place_of_the_older(scene: Scene) -> None:
    """The store would grow with each interruption, or what has not changed be sent again."""
    scene.write(ckpt_1="one", last="1")
    scene.save()
    scene.write(ckpt_2="two", last="22")
    assert scene.save(attempt=2) == Saved(3, 8)
    base = "jobs/j/checkpoint/"
    names = {"manifest.json", "1-1/1", "1-2/2", "1-2/last"}
    assert scene.keys() == {base + name for name in names}
    scene.empty()
    scene.restore(attempt=2)
    assert scene.files() == {"ckpt/1": "one", "ckpt/2": "two", "last": "22"}
    scene.empty()
    assert scene.save(attempt=3) == Saved(3, 8), "an attempt that saved nothing leaves it"


def cut_after(monkeypatch: pytest.MonkeyPatch, scene: Scene, calls: int) -> None:
    """The machine goes after so many changes of the store."""
    left = [calls]

    def guard(call: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(*arguments: Any, **named: Any) -> Any:
            if left[0] <= 0:
                raise StoreError("gone")
            left[0] -= 1
            return call(*arguments, **named)

        return guarded

    for name in ("put_file", "put_bytes", "delete"):
        monkeypatch.setattr(scene.store, name, guard(getattr(scene.store, name)))


@pytest.mark.parametrize("calls", range(6))
def test_cut_at_any_step_there_is_one_whole_checkpoint(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, calls: int
) -> None:
    """The two minutes would end in the middle, and half of a checkpoint be gone on from."""
    scene.write(ckpt_1="one", last="1")
    scene.save()
    older = scene.files()
    scene.write(ckpt_1="two", ckpt_2="zwei", last="22")
    newer = scene.files()
    with monkeypatch.context() as patch:
        cut_after(patch, scene, calls)
        scene.save(attempt=2)
    scene.empty()
    scene.restore(attempt=2)
    assert scene.files() in (older, newer)
    assert scene.files() == (newer if calls > 3 else older)


def test_a_file_that_cannot_be_read_leaves_the_older_one(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of a checkpoint would be taken for a whole one."""
    scene.write(ckpt_1="one")
    scene.save()
    scene.write(ckpt_1="longer", last="1")
    put = scene.store.put_file

    def vanishing(key: str, source: SourceFile, **named: Any) -> Stored:
        if key.endswith("last"):
            os.unlink(source.path)
        return put(key, source, **named)

    monkeypatch.setattr(scene.store, "put_file", vanishing)
    saved = scene.save(attempt=2)
    assert saved.final and saved.problem and "last" in saved.problem
    scene.empty()
    scene.restore(attempt=2)
    assert scene.files() == {"ckpt/1": "one"}


def test_another_run_or_a_later_start_is_left_alone(scene: Scene) -> None:
    """--fresh would go on from what it was to forget; a machine that was succeeded would write."""
    scene.write(last="1")
    scene.save(epoch=2)
    assert "later start" in (scene.save(attempt=2).problem or "")
    scene.empty()
    assert scene.restore(run_id="run-2") == BroughtBack(0)
    assert scene.files() == {}


def test_what_the_store_lost_is_told(scene: Scene) -> None:
    """The job would go on from half a checkpoint, and nobody know why it fails."""
    scene.write(ckpt_1="one")
    scene.save()
    scene.store.delete("jobs/j/checkpoint/1-1/1")
    scene.empty()
    assert "no copy" in (scene.restore().lost or "")
