"""Former results out of a job's way: all that its patterns match, nothing else, none twice."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runner.results.set_aside import AsideRequest, set_aside
from runner.results.upload.collect import collect


def write(top: Path, *names: str) -> None:
    for name in names:
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(name)


def files(top: Path) -> set[str]:
    found = (path for path in top.rglob("*") if path.is_file() or path.is_symlink())
    return {str(path.relative_to(top)) for path in found} - {".runner-aside/.gitignore"}


def clear(work: Path, *patterns: str, first: bool = True, kept: tuple[str, ...] = ()) -> int:
    return set_aside(AsideRequest("j", patterns, str(work), kept, first))


def test_what_matches_goes_and_nothing_else(tmp_path: Path) -> None:
    """A job would find its former results, or lose a file that no pattern of its matches."""
    write(tmp_path, "out/a.txt", "out/in/b.txt", "out/keep.csv", "other.txt", "model")
    assert clear(tmp_path, "out/**/*.txt", "model", "out/a.txt", "none/*") == 3
    assert files(tmp_path) == {
        "out/keep.csv",
        "other.txt",
        ".runner-aside/j/before/out/a.txt",
        ".runner-aside/j/before/out/in/b.txt",
        ".runner-aside/j/before/model",
    }
    assert clear(tmp_path, "**", first=False) == 2, "what is aside stays where it is"
    found = collect(("**", ".runner-*/**", "*/**/*.txt"), str(tmp_path))
    assert found.files == (), "nor is it anybody's result"


def test_a_later_attempt_finds_what_the_one_before_has_saved(tmp_path: Path) -> None:
    """A retry would lose its checkpoint; or the first attempt go on from an earlier run's."""
    write(tmp_path, "out/last.ckpt", "out/part.csv")
    assert clear(tmp_path, "out/*", kept=("out/*.ckpt",)) == 2
    write(tmp_path, "out/last.ckpt", "out/part.csv")
    assert clear(tmp_path, "out/*", first=False, kept=("out/*.ckpt",)) == 1
    assert files(tmp_path / "out") == {"last.ckpt"}
    aside = {"before/out/last.ckpt", "before/out/part.csv", "failed/out/part.csv"}
    assert files(tmp_path / ".runner-aside/j") == aside


def test_links_and_paths_elsewhere(tmp_path: Path) -> None:
    """A file behind a link would be moved in its place, or one end up outside of what is hidden."""
    work, far = tmp_path / "work", tmp_path / "far"
    write(work, "x")
    write(far, "target", "data/one", "sub/two")
    (work / "link").symlink_to(far / "target")
    (work / "folder").symlink_to(far / "data")
    assert clear(work, "link", "folder", f"{far}/sub/*", "../far/target") == 4
    assert (work / ".runner-aside/j/before/link").is_symlink()
    assert files(far) == {
        "data/.runner-aside/j/before/one",
        "data/.runner-aside/.gitignore",
        "sub/.runner-aside/j/before/two",
        "sub/.runner-aside/.gitignore",
        ".runner-aside/j/before/target",
    }


def test_one_former_version_is_kept_of_each_file(tmp_path: Path) -> None:
    """A disk would fill up with every result that there ever was."""
    for text in ("one", "two"):
        (tmp_path / "r").write_text(text)
        assert clear(tmp_path, "r") == 1
    assert (tmp_path / ".runner-aside/j/before/r").read_text() == "two"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_told(tmp_path: Path) -> None:
    """The job would start beside results that it takes for its own."""
    write(tmp_path, "out/a")
    (tmp_path / "out").chmod(0o555)
    with pytest.raises(PermissionError):
        clear(tmp_path, "out/*")
    (tmp_path / "out").chmod(0o755)


def test_it_ends_where_nobody_wants_it_any_more(tmp_path: Path) -> None:
    """What a newer attempt makes would be moved aside by one that was cancelled."""
    write(tmp_path, "a", "b", "c")
    seen = []

    def check() -> None:
        seen.append(1)
        if len(seen) == 2:
            raise KeyError

    with pytest.raises(KeyError):
        set_aside(AsideRequest("j", ("*",), str(tmp_path)), check)
    assert len(files(tmp_path) & {"a", "b", "c"}) == 2
