"""The work folder on its way: what goes along, the same bytes every time, nothing outside of it."""

from __future__ import annotations

import hashlib
import io
import itertools
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from runner.errors import RunnerError, UsageError
from runner.targets.ec2.launch.workdir import pack, unpack
from runner.targets.ec2.launch.workdir_files import Choice

MIB = 1024**2


def git(folder: Path, *words: str) -> None:
    subprocess.run(["git", "-C", str(folder), *words], check=True, capture_output=True)


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """A folder with all that a project has."""
    folder = tmp_path / "code"
    (folder / "src").mkdir(parents=True)
    (folder / "src" / "train.py").write_text("print('hello')\n")
    (folder / "run.sh").write_text("#!/bin/sh\n")
    (folder / "run.sh").chmod(0o755)
    (folder / "ümläut \n name").write_text("x")
    (folder / "link").symlink_to("src/train.py")
    (folder / ".env").write_text("SECRET=1\n")
    (folder / ".gitignore").write_text(".env\n")
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "x.pyc").write_text("x")
    return folder


def packed(folder: Path, limit: int = MIB) -> tuple[bytes, Choice]:
    told: list[Choice] = []
    path = pack(folder, limit, say=told.append)
    data = path.read_bytes()
    path.unlink()
    return data, told[0]


def names(data: bytes) -> set[str]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {entry.name for entry in archive}


ALWAYS = {"src/train.py", "run.sh", "ümläut \n name", "link", ".gitignore"}


def test_git_says_what_goes_along(code: Path) -> None:
    """Secrets and gigabytes that .gitignore keeps at home would go to S3."""
    git(code, "init")
    (code / ".gitignore").write_text(".env\n__pycache__\n")
    (code / "gone").write_text("x")
    git(code, "add", "gone", "run.sh")
    (code / "gone").unlink()
    os.mkfifo(code / "pipe")
    data, choice = packed(code)
    assert names(data) == ALWAYS == set(choice.files) and choice.git
    assert choice.left_out == ()


def test_a_repository_in_the_repository_goes_along(code: Path) -> None:
    """Of a submodule git tells the folder only: the code would miss a part."""
    inner = code / "vendored"
    inner.mkdir()
    git(code, "init")
    git(inner, "init")
    (inner / "lib.py").write_text("x")
    (inner / ".gitignore").write_text("big\n")
    (inner / "big").write_text("x")
    found = names(packed(code)[0])
    assert "vendored/lib.py" in found and "vendored/big" not in found


def test_without_git_all_goes_along_but_what_is_named(code: Path) -> None:
    """A folder that is in no repository could not be shipped, or would be with its secrets."""
    data, choice = packed(code)
    assert names(data) == ALWAYS and not choice.git
    assert [each.path for each in choice.left_out] == [".env", "__pycache__/"]


def test_what_became_a_link_after_the_choice_is_not_followed(code: Path, tmp_path: Path) -> None:
    """What is outside would be packed: somebody else may write to the folder."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "train.py").write_text("SECRET")

    def swap(choice: Choice) -> None:
        (code / "src").rename(tmp_path / "moved")
        (code / "src").symlink_to(tmp_path / "outside")

    with pytest.raises(UsageError, match=r"'src/train\.py' can't be packed: a link is on the way"):
        pack(code, MIB, say=swap)


def test_names_of_every_kind_arrive(tmp_path: Path) -> None:
    """A job would miss a file because of its name."""
    folder, there = tmp_path / "odd", tmp_path / "there"
    given = [b"-rf", b"new\nline", b"\xff\xfe.txt", b"%41", b" ", b"a" * 255, b"*", b"e\xcc\x81",
             b"/".join([b"d" * 100] * 20) + b"/f"]  # fmt: skip
    for name in given:
        path = folder / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name[:20])
    there.mkdir()
    unpack(io.BytesIO(packed(folder)[0]), there)
    for name in given:
        assert (there / os.fsdecode(name)).read_bytes() == name[:20]


def test_git_in_trouble_is_no_leave_to_ship_all(code: Path) -> None:
    """What .gitignore keeps at home would be shipped because git could not be asked."""
    git(code, "init")
    (code / ".git" / "index").write_text("broken")
    with pytest.raises(UsageError, match="git can't say"):
        packed(code)


def test_the_same_folder_gives_the_same_bytes(code: Path) -> None:
    """The same code would be sent again with each launch, and a second try be another request."""
    first = hashlib.sha256(packed(code)[0]).digest()
    os.utime(code / "run.sh", (1, 1))
    assert hashlib.sha256(packed(code)[0]).digest() == first
    (code / "run.sh").chmod(0o644)
    assert hashlib.sha256(packed(code)[0]).digest() != first


def test_too_large_names_the_largest(code: Path) -> None:
    """The user would not know what to ignore."""
    (code / "data.bin").write_bytes(b"x" * (2 * MIB))
    (code / "more.bin").write_bytes(b"x" * MIB)
    with pytest.raises(UsageError) as raised:
        packed(code)
    lines = str(raised.value).splitlines()
    assert "3.0 MiB" in lines[0] and "limit is 1.0 MiB" in lines[0]
    assert lines[1].split() == ["2.0", "MiB", "'data.bin'"]


@pytest.mark.parametrize("made", ["nothing", "empty"])
def test_nothing_to_ship_is_told(tmp_path: Path, made: str) -> None:
    """A mistyped folder would be an empty work folder on a machine that is paid for."""
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=made):
        pack(tmp_path / made, MIB)


def test_progress_ends_at_the_whole(code: Path) -> None:
    """The bar would stop short, or run over."""
    (code / "data.bin").write_bytes(os.urandom(MIB // 2))
    told: list[tuple[int, int]] = []
    pack(code, MIB, lambda done, total: told.append((done, total))).unlink()
    assert told[-1][0] == told[-1][1] > MIB // 2
    assert all(a[0] <= b[0] for a, b in itertools.pairwise(told)) and len(told) > 5


def test_it_arrives_as_it_was(code: Path, tmp_path: Path) -> None:
    """A script would not be executable, a link be a copy."""
    data, _ = packed(code)
    there = tmp_path / "there"
    there.mkdir()
    unpack(io.BytesIO(data), there)
    assert (there / "src/train.py").read_text() == "print('hello')\n"
    assert os.access(there / "run.sh", os.X_OK) and not os.access(there / "src/train.py", os.X_OK)
    assert os.readlink(there / "link") == "src/train.py"


HOSTILE = {
    "parent": [("../escaped", None)],
    "absolute": [("/tmp/escaped-runner-test", None)],
    "through a link": [("out", ".."), ("out/escaped", None)],
    "a device": [("dev", 0)],
}


@pytest.mark.parametrize("entries", HOSTILE.values(), ids=list(HOSTILE))
def test_nothing_leaves_the_folder(
    tmp_path: Path, entries: list[tuple[str, str | int | None]]
) -> None:
    """An archive could replace files of the machine."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz") as archive:
        for name, kind in entries:
            entry = tarfile.TarInfo(name)
            if isinstance(kind, str):
                entry.type, entry.linkname = tarfile.SYMTYPE, kind
            elif kind is not None:
                entry.type = tarfile.CHRTYPE
            archive.addfile(entry, io.BytesIO())
    raw.seek(0)
    there = tmp_path / "there"
    there.mkdir()
    with pytest.raises(RunnerError):
        unpack(raw, there)
    assert {path.name for path in tmp_path.iterdir()} == {"there"}
    assert not Path("/tmp/escaped-runner-test").exists()
