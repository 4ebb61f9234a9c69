"""What patterns match, on a real tree."""

from __future__ import annotations

import fnmatch
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.results.upload.collect import Collection, collect
from runner.results.upload.source_file import SourceError, SourceFile


def _write(path: Path, text: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def _names(found: Collection) -> list[str]:
    return [file.name for file in found.files]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ["a.pt", ".b.pt", "c.txt", "x/y.log", "x/.hid/z.log", "top.log"]:
        _write(tmp_path / name)
    return tmp_path


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("*.pt", [".b.pt", "a.pt"]),
        ("**/*.log", ["top.log", "x/.hid/z.log", "x/y.log"]),
        ("x", ["x/.hid/z.log", "x/y.log"]),
        ("x/", ["x/.hid/z.log", "x/y.log"]),
        ("*/", ["x/.hid/z.log", "x/y.log"]),
        ("?", ["x/.hid/z.log", "x/y.log"]),
        ("x/*", [".hid/z.log", "y.log"]),
        ("x/**", [".hid/z.log", "y.log"]),
        ("[ab].pt", ["a.pt"]),
        ("x/../a.pt", ["a.pt"]),
    ],
)
def test_patterns_are_named_below_their_fixed_part(
    tree: Path, pattern: str, names: list[str]
) -> None:
    """Results would be missing or stored under names nobody expects."""
    for pattern_and_place in [(pattern, str(tree)), (f"{tree}/{pattern}", "/")]:
        found = collect([pattern_and_place[0]], pattern_and_place[1])
        assert _names(found) == names
        assert found.problems == ()


def test_a_collected_file_tells_what_it_is(tree: Path) -> None:
    """The manifest would hold a wrong size, time, mode or place."""
    path = tree / "a.pt"
    path.chmod(0o640)
    os.utime(path, ns=(5, 1_234_567_890_123_456_789))
    (file,) = collect(["c.t", "*.pt", str(path)], str(tree)).files[1:]
    assert (file.path, file.size, file.mode) == (str(path), 1, 0o640)
    assert (file.mtime_ns, file.pattern) == (1_234_567_890_123_456_789, 1)


def test_a_file_matched_twice_is_taken_once(tree: Path) -> None:
    """A file would be stored twice, under two names."""
    (tree / "way").symlink_to("x")
    patterns = ["x/*.log", "**/y.log", f"{tree}/x/y.log", "way/y.log", "way", "x"]
    found = collect(patterns, str(tree))
    assert [(file.name, file.pattern) for file in found.files] == [
        ("y.log", 0),
        ("way/.hid/z.log", 4),
    ]
    assert found.problems == (f"'{tree}/way' is a link to a folder: left out",)


def test_no_match_is_a_problem(tmp_path: Path) -> None:
    """A result that was promised and isn't there would pass unnoticed."""
    (tmp_path / "empty").mkdir()
    patterns = [f"{tmp_path}/*.pt", "gone", "no/such/*", "empty", "/", "a\0b"]
    found = collect(patterns, str(tmp_path))
    assert found.files == ()
    assert found.problems == (
        f"pattern '{tmp_path}/*.pt' matched nothing",
        "pattern 'gone' matched nothing",
        "pattern 'no/such/*' matched nothing",
        "pattern 'empty' matched nothing",
        "pattern '/' is the root folder",
        "pattern 'a%00b' is no path",
    )


def test_an_optional_pattern_may_match_nothing(tmp_path: Path) -> None:
    """A result that there is only sometimes would be told as missing each time."""
    _write(tmp_path / "a" / "x")
    (tmp_path / "a" / "link").symlink_to("/etc/hostname")
    found = collect(["*.csv", "*.pt", "a/*"], str(tmp_path), optional={"*.csv", "a/*"})
    assert [each.path for each in found.missing] == ["*.pt", f"{tmp_path}/a/link"]
    assert _names(found) == ["x"]


def test_links_inside_are_files_and_others_are_told(tmp_path: Path) -> None:
    """A link would lead out of the job's files, around in a circle, or be lost silently."""
    _write(tmp_path / "outside" / "secret", "secret")
    _write(tmp_path / "m" / "a.pt", "real")
    _write(tmp_path / "m2" / "b.pt", "beside")
    links = {
        "latest.pt": "a.pt",
        "absolute.pt": f"{tmp_path}/m/a.pt",
        "secret.pt": "../outside/secret",
        "beside.pt": "../m2/b.pt",
        "folder.pt": "../outside",
        "loop": ".",
        "self.pt": "self.pt",
        "dangling.pt": "nothing",
        "tty.pt": "/dev/null",
    }
    for name, target in links.items():
        (tmp_path / "m" / name).symlink_to(target)
    found = collect([f"{tmp_path}/m/**/*.pt"], "/")
    assert _names(found) == ["a.pt", "absolute.pt", "latest.pt"]
    assert {file.size for file in found.files} == {4}
    told = {problem.split("'")[1].rpartition("/")[2]: problem for problem in found.problems}
    assert set(told) == set(links) - {"latest.pt", "absolute.pt"}
    assert told["secret.pt"].endswith(f"is a link that leaves '{tmp_path}/m': left out")
    assert told["loop"].endswith("is a link to a folder: left out")
    assert told["tty.pt"].endswith("is a link to a device: left out")
    assert told["dangling.pt"].endswith("can't be read: No such file or directory")
    (tmp_path / "m" / "self").symlink_to(tmp_path / "m")
    assert collect(["m/**"], str(tmp_path)).missing == collect(["m/*"], str(tmp_path)).missing
    missing = {each.path.rpartition("/")[2] for each in found.missing}
    assert missing == {"secret.pt", "beside.pt", "folder.pt"}, "others are met on their own"


def test_a_link_that_the_document_names_is_followed(tmp_path: Path) -> None:
    """`result_paths: ["/out/latest.pt"]` would store nothing where `latest.pt` is a link."""
    _write(tmp_path / "real" / "m.pt", "model")
    (tmp_path / "latest.pt").symlink_to("real/m.pt")
    (tmp_path / "run").symlink_to("real")
    (tmp_path / "dangling").symlink_to("nothing")
    found = collect(["latest.pt", "run", "run/*.pt", "dangling"], str(tmp_path))
    assert [(file.name, file.size) for file in found.files] == [("latest.pt", 5), ("run/m.pt", 5)]
    assert found.problems[0].startswith(f"'{tmp_path}/dangling' can't be read")


def test_what_is_no_file_is_told_and_never_opened(tmp_path: Path) -> None:
    """Opening a fifo would hang the upload for ever."""
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "sock"))
        found = collect(["*", "fifo", "/dev/null"], str(tmp_path))
    assert found.files == ()
    assert f"'{tmp_path}/fifo' is a fifo: left out" in found.problems
    assert f"'{tmp_path}/sock' is a socket: left out" in found.problems
    assert "'/dev/null' is a device: left out" in found.problems
    assert "pattern '*' matched nothing that can be stored" in found.problems
    assert [each.path for each in found.missing] == ["*", "fifo", "/dev/null"]


def test_odd_names_are_found(tmp_path: Path) -> None:
    """A file with an unusual name would be lost, or break the whole upload."""
    names = [b"a\nb", b"\xff\xfe", b"-rf", b"..a", b"...", b" ", b"%41", b"*", b"[x]"]
    for name in names:
        with open(os.fsencode(tmp_path) + b"/" + name, "wb"):
            pass
    found = collect(["*"], str(tmp_path))
    assert sorted(os.fsencode(file.path).rpartition(b"/")[2] for file in found.files) == sorted(
        names
    )
    assert {"%FF%FE", "%2541", "..a", "..."} <= set(_names(found))


@contextmanager
def _without_privileges() -> Iterator[Path]:
    """A folder that nobody else uses, and, for root, nobody's rights while in it."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    uid = os.geteuid()
    try:
        yield folder
    finally:
        if uid == 0:
            os.seteuid(0)
        shutil.rmtree(folder)


def test_what_may_not_be_read_is_told() -> None:
    """A folder without permission would end the upload, or be taken for an empty one."""
    with _without_privileges() as folder:
        _write(folder / "closed" / "deep" / "x")
        _write(folder / "open" / "y")
        (folder / "closed").chmod(0)
        if os.geteuid() == 0:
            os.seteuid(65534)
        found = collect(["**", "closed/deep/x", "closed/*"], str(folder))
        if os.getuid() != os.geteuid():
            os.seteuid(0)
        (folder / "closed").chmod(0o755)
    assert _names(found) == ["open/y"]
    assert found.problems[0] == f"'{folder}/closed' can't be read: Permission denied"
    assert found.problems[1] == f"'{folder}/closed/deep/x' can't be read: Permission denied"
    assert len(found.problems) == 5
    closed = [f"{folder}/closed", f"{folder}/closed/deep/x", "closed/deep/x"]
    assert [each.path for each in found.missing] == [*closed, f"{folder}/closed", "closed/*"]


def test_skipped_folders_are_not_entered(tree: Path) -> None:
    """`--results` below the working directory would store its own results again and again."""
    found = collect(["**"], str(tree), skip=(os.path.realpath(tree / "x"),))
    assert _names(found) == [".b.pt", "a.pt", "c.txt", "top.log"]
    assert collect(["x"], str(tree), skip=(str(tree / "x"),)).files == ()


def test_folders_of_runner_are_left_out_unless_the_job_works_in_them(tree: Path) -> None:
    """The state's own files would be results; or a job of the daemon have none at all."""
    own = {os.path.realpath(path) for path in (tree, tree / "x", tree / "top.log")}
    assert _names(collect(["**"], str(tree), own=own)) == [".b.pt", "a.pt", "c.txt"]
    assert _names(collect(["**"], str(tree / "x"), own=own)) == [".hid/z.log", "y.log"]
    (missing,) = collect(["*.log"], str(tree), own=own).missing
    assert missing.why == "pattern '*.log' matched nothing but files of runner itself"


def test_a_folder_swapped_for_a_link_is_refused(tmp_path: Path) -> None:
    """A job could make the upload read what its user may not."""
    _write(tmp_path / "m" / "x" / "a.pt")
    _write(tmp_path / "elsewhere" / "a.pt", "secret")
    (file,) = collect(["m/**"], str(tmp_path)).files
    with file.source.open() as fd:
        assert os.read(fd, 10) == b"x"
    shutil.rmtree(tmp_path / "m" / "x")
    (tmp_path / "m" / "x").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SourceError, match="can't be read"), file.source.open():
        pass


@pytest.mark.parametrize("swap", ["fifo", "link", "gone", "folder"])
@pytest.mark.parametrize("ours", [False, True])
def test_a_file_that_became_something_else_is_refused(
    tmp_path: Path, swap: str, ours: bool
) -> None:
    """An open would hang on a fifo, or follow a link, that came after the walk."""
    path = tmp_path / "f"
    match swap:
        case "fifo":
            os.mkfifo(path)
        case "link":
            path.symlink_to("/etc/passwd")
        case "folder":
            path.mkdir()
        case _:
            pass
    source = SourceFile(os.path.realpath(tmp_path) + "/f", ours)
    with pytest.raises(SourceError), source.open():
        pass
    with pytest.raises(SourceError):
        source.stat()


@pytest.fixture
def deep(tmp_path: Path) -> Iterator[Path]:
    """A folder with a file, and a link to it, below 2,200 more: shutil.rmtree can't remove it."""
    at = os.open(tmp_path, os.O_RDONLY)
    try:
        for _ in range(2200):
            os.mkdir("a", dir_fd=at)
            below = os.open("a", os.O_RDONLY, dir_fd=at)
            os.close(at)
            at = below
        os.close(os.open("bottom", os.O_CREAT | os.O_WRONLY, dir_fd=at))
        os.symlink("bottom", "link", dir_fd=at)
        yield tmp_path
    finally:
        os.close(at)
        subprocess.run(["rm", "-rf", tmp_path / "a"], check=True)


def test_files_in_deep_trees_are_found_and_read(deep: Path) -> None:
    """A job that nests folders beyond PATH_MAX would lose results, or the upload its thread."""
    _write(deep / "x")
    found = collect(["**"], str(deep))
    (bottom, _) = found.files
    assert bottom.path == f"{deep}/{'a/' * 2200}bottom"
    assert found.problems == (f"'{deep}/{'a/' * 2200}link' can't be read: File name too long",)
    assert bottom.source.stat().st_size == 0
    with bottom.source.open() as fd:
        assert os.fstat(fd).st_size == 0


def test_ten_thousand_files_are_quick(tmp_path: Path) -> None:
    """A job with many small results would hold the queue up for minutes."""
    for folder in range(100):
        (tmp_path / f"{folder}").mkdir()
        for file in range(100):
            os.close(os.open(f"{tmp_path}/{folder}/{file}.bin", os.O_CREAT, 0o644))
    start = time.process_time()
    found = collect(["**/*.bin", "**"], str(tmp_path))
    assert len(found.files) == 10_000
    assert time.process_time() - start < 3


PARTS = st.sampled_from([b"a", b"b", b".c", b"a\n", b"\xff", b"[x]", b"**", b"..a", b"-r"])
WILD = st.sampled_from([b"**", b"*", b"?", b"[!.]*", b"*\xff", b"a*"])


@settings(max_examples=150, deadline=None)
@given(
    files=st.lists(st.lists(PARTS, min_size=1, max_size=4), max_size=8),
    pattern=st.tuples(WILD, st.lists(WILD | PARTS, max_size=3)),
)
def test_a_walk_matches_what_the_rules_say(
    files: list[list[bytes]], pattern: tuple[bytes, list[bytes]]
) -> None:
    """The automaton would differ from the plain definition of a pattern."""
    parts = [os.fsdecode(part) for part in (pattern[0], *pattern[1])]
    with tempfile.TemporaryDirectory() as root:
        made = set()
        for file in files:
            path = os.path.join(os.fsencode(root), *file)
            try:
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with open(path, "xb"):
                    made.add(os.fsdecode(b"/".join(file)))
            except OSError:
                continue
        found = collect(["/".join(parts)], root)
        paths = [file.path.removeprefix(root + "/") for file in found.files]
    assert sorted(paths) == sorted(path for path in made if _means(parts, path.split("/")))


def _means(parts: list[str], path: list[str]) -> bool:
    """The definition, said again and slowly."""
    if not parts:
        return True
    if not path:
        return False
    if parts[0] == "**":
        return len(parts) == 1 or any(_means(parts[1:], path[at:]) for at in range(len(path)))
    return fnmatch.fnmatchcase(path[0], parts[0]) and _means(parts[1:], path[1:])
