"""What both stores promise alike, and a job's upload into each of them."""

from __future__ import annotations

import errno
import hashlib
import os
import socket
import tempfile
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from s3_endpoint import Endpoint

from runner.results.escape import TEMPORARY, escape_name, unescape
from runner.results.folder import FolderStore
from runner.results.layout import Layout
from runner.results.manifest import FileEntry, Manifest, parse_manifest
from runner.results.s3 import multipart_upload
from runner.results.s3.store import S3Store
from runner.results.store import ChangedError, Entry, RefusedError, ResultStore
from runner.results.upload.job_upload import JobUpload, UploadOutcome, upload_job
from runner.results.upload.source_file import SourceError, SourceFile

PART = 5 << 20
"""The least that S3 takes as a part that isn't the last: uploads in parts cost the least so."""


@dataclass
class Bed:
    """A store, and what its own kind of unfinished upload is."""

    store: ResultStore
    leave: Callable[[str], object]
    left: Callable[[], list[str]]


def _folder_bed(root: Path) -> Bed:
    def leave(key: str) -> None:
        path = root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_name(f"{TEMPORARY}{path.name}").write_bytes(b"half")

    def left() -> list[str]:
        return [str(path.relative_to(root)) for path in root.rglob(f"{TEMPORARY}*")]

    return Bed(FolderStore(root), leave, left)


def _s3_bed(endpoint: Endpoint) -> Bed:
    bucket = endpoint.bucket()

    def leave(key: str) -> None:
        endpoint.client().create_multipart_upload(Bucket=bucket, Key=f"a/b/{key}")

    return Bed(S3Store(bucket, "a/b"), leave, lambda: endpoint.open_uploads(bucket))


@pytest.fixture
def s3_bed(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bed]:
    for name, value in endpoint.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(multipart_upload, "PART", PART)
    bed = _s3_bed(endpoint)
    yield bed
    bed.store.close()


@pytest.fixture(params=["folder", "s3"])
def bed(request: pytest.FixtureRequest, tmp_path: Path) -> Bed:
    if request.param == "folder":
        return _folder_bed(tmp_path / "results")
    made: Bed = request.getfixturevalue("s3_bed")
    return made


@pytest.fixture
def store(bed: Bed) -> ResultStore:
    return bed.store


def _source(path: Path) -> SourceFile:
    return SourceFile(os.path.realpath(path))


def _fetch(store: ResultStore, key: str) -> bytes | None:
    with tempfile.TemporaryFile() as file:
        if not store.get_file(key, file.fileno()):
            return None
        file.seek(0)
        return file.read()


def _keys(store: ResultStore, prefix: str = "") -> dict[str, int]:
    entries = list(store.list(prefix))
    assert len({entry.key for entry in entries}) == len(entries)
    return {entry.key: entry.size for entry in entries}


# -- files and bytes -------------------------------------------------------------------------


def test_files_of_any_size_come_back(bed: Bed, tmp_path: Path) -> None:
    """A result would differ from what the job wrote."""
    path, sizes = tmp_path / "f", (0, 1, 65_537, PART - 1, PART, PART + 1, 2 * PART + 3)
    for size in sizes:
        data = os.urandom(size)
        path.write_bytes(data)
        path.chmod(0o2751)
        os.utime(path, ns=(1, 1_600_000_000_123_456_789))
        stored = bed.store.put_file(f"jobs/j/{size}", _source(path), durable=True)
        assert (stored.size, stored.sha256) == (size, hashlib.sha256(data).hexdigest())
        assert (stored.mtime_ns, stored.mode) == (1_600_000_000_123_456_789, 0o751)
        assert not stored.changed
        assert _fetch(bed.store, f"jobs/j/{size}") == data
    bed.store.flush("jobs/j/")
    assert _keys(bed.store) == {f"jobs/j/{size}": size for size in sizes}
    assert bed.left() == []


def test_a_new_version_replaces_the_old(store: ResultStore, tmp_path: Path) -> None:
    """A retry's result would have the end of the one before."""
    path = tmp_path / "f"
    for size in (PART + 1, 10, 0, 70_000):
        path.write_bytes(data := os.urandom(size))
        store.put_file("f", _source(path))
        assert (_fetch(store, "f"), _keys(store)) == (data, {"f": size})


def test_bytes_come_back(store: ResultStore) -> None:
    """State and manifests would be lost, or an absent one taken for an empty one."""
    store.put_bytes("queue-state.json", b"{}", durable=True)
    store.put_bytes("queue-state.json", b"{1}")
    store.put_bytes("jobs/j/empty", b"")
    assert store.get_bytes("queue-state.json") == b"{1}"
    assert store.get_bytes("jobs/j/empty") == b""
    assert store.get_bytes("jobs/nobody/x") is None
    assert store.get_versioned("jobs/nobody/x") is None
    assert store.get_bytes("queue-state.json/x") is None
    assert _fetch(store, "jobs/nobody/x") is None
    assert _fetch(store, "jobs/j/empty") == b""


ODD = [
    *(b"a b", b" ", b"a\nb", b"\t", b"\r", b"\x01", b"\x7f", b"-rf", b"--", b"..a", b"...", b"a.."),
    *(b"%41", b"%2E%2E", b"%", b"+", b"a+b&c=d?e#f", b";", b",", b"a\\b", b"'\"`", b"*", b"[x]"),
    *(b"$HOME", b"~", b"<&amp;>", "ä日本\U0001f600".encode(), b"\xff\xfe", b"a\xe4", b"x" * 255),
    *("\ufffe".encode(), b".", b"..", TEMPORARY.encode(), b"{}", b"^|", b"@:!()="),
]


def test_odd_names_are_keys_like_others(store: ResultStore) -> None:
    """A file with some name would be lost, doubled, or come back under another one."""
    keys = [f"jobs/j/{escape_name(os.fsdecode(name))}" for name in ODD]
    keys += [f"{key}.d/{key.rpartition('/')[2][:200]}" for key in keys if len(key) < 200]
    for at, key in enumerate(keys):
        store.put_bytes(key, b"%d" % at)
    assert set(_keys(store, "jobs/j/")) == set(keys)
    for at, key in enumerate(keys):
        assert store.get_bytes(key) == b"%d" % at
    for key in keys[::2]:
        store.delete(key)
    assert set(_keys(store, "jobs/j/")) == set(keys[1::2])


def test_a_prefix_is_a_folder(store: ResultStore) -> None:
    """Another job's results would be taken for this one's, and removed as such."""
    for key in ("jobs/j/a", "jobs/j/b/c", "jobs/jj/d", "x"):
        store.put_bytes(key, key.encode())
    assert set(store.list("jobs/j/")) == {Entry("jobs/j/a", 8), Entry("jobs/j/b/c", 10)}
    assert set(_keys(store)) == {"jobs/j/a", "jobs/j/b/c", "jobs/jj/d", "x"}
    assert _keys(store, "jobs/none/") == {}
    for key in ("jobs/j/b/c", "jobs/j/b/c", "jobs/none/x"):
        store.delete(key)
    assert set(_keys(store)) == {"jobs/j/a", "jobs/jj/d", "x"}


def test_a_swap_is_only_for_who_has_seen_the_last_one(store: ResultStore) -> None:
    """A machine that comes back late would write over what its successor has written."""
    with pytest.raises(ChangedError):
        store.swap_bytes("queue-state.json", b"0", '"unknown"')
    first = store.swap_bytes("queue-state.json", b"1", None)
    with pytest.raises(ChangedError):
        store.swap_bytes("queue-state.json", b"2", None)
    second = store.swap_bytes("queue-state.json", b"2", first)
    with pytest.raises(ChangedError):
        store.swap_bytes("queue-state.json", b"3", first)
    found = store.get_versioned("queue-state.json")
    assert found is not None and (found.data, found.version) == (b"2", second)


def test_unfinished_uploads_are_removed(bed: Bed) -> None:
    """Each kill during an upload would cost space for ever."""
    for key in ("jobs/j/f", "jobs/j/d/e/f", "jobs/j/a\nb", "jobs/j/ä b+c&d%41"):
        bed.leave(key)
    bed.store.put_bytes("jobs/j/a", b"a")
    assert _keys(bed.store) == {"jobs/j/a": 1}
    bed.store.clean_up("jobs/j/")
    bed.store.discard_unfinished("jobs/j/")
    assert (bed.left(), _keys(bed.store)) == ([], {"jobs/j/a": 1})


def test_what_is_tried_first_leaves_nothing(bed: Bed) -> None:
    """Every start would leave a probe among the results."""
    bed.store.prepare()
    assert (bed.left(), _keys(bed.store)) == ([], {})


# -- sources ---------------------------------------------------------------------------------


def _while_read(monkeypatch: pytest.MonkeyPatch, times: int, change: Callable[[], object]) -> None:
    read, left = os.preadv, [times]

    def preadv(fd: int, buffers: list[memoryview], at: int) -> int:
        count = read(fd, buffers, at)
        if left[0]:
            left[0] -= 1
            change()
        return count

    monkeypatch.setattr(os, "preadv", preadv)


@pytest.mark.parametrize("size", [3_000, PART + 1])
def test_a_file_that_changes_is_read_again(
    bed: Bed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """A mixture of two versions would be stored as if it were a result."""
    path = tmp_path / "f"
    path.write_bytes(b"x" * size)
    _while_read(monkeypatch, 1, lambda: path.write_bytes(b"newer"))
    stored = bed.store.put_file("f", _source(path))
    monkeypatch.undo()
    assert (stored.size, stored.changed) == (5, False)
    assert stored.sha256 == hashlib.sha256(b"newer").hexdigest()
    assert bed.left() == []


@pytest.mark.parametrize("size", [2_000, PART + 1])
def test_a_file_that_never_rests_is_kept_and_told(
    store: ResultStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """An upload would never end, or a manifest tell a sha256 of other bytes."""
    path = tmp_path / "f"
    path.write_bytes(b"x" * size)

    def grow() -> None:
        with path.open("ab") as file:
            file.write(os.urandom(1_000))

    _while_read(monkeypatch, 1_000, grow)
    stored = store.put_file("f", _source(path))
    with monkeypatch.context() as quiet:
        quiet.setattr(os, "preadv", os.preadv)
        data = store.get_bytes("f")
    assert data is not None and stored.changed
    assert (stored.size, stored.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert path.read_bytes().startswith(data)


def test_a_file_that_can_not_be_read_is_not_the_stores_fault(
    bed: Bed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One bad sector in one file would keep all results of a job from being stored."""
    path = tmp_path / "f"

    def preadv(*_: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "preadv", preadv)
    for size in (1, PART + 1):
        path.write_bytes(b"x" * size)
        with pytest.raises(SourceError, match="Input/output error"):
            bed.store.put_file("jobs/f", _source(path))
        assert (bed.left(), _keys(bed.store)) == ([], {})


def test_what_is_no_file_never_hangs(store: ResultStore, tmp_path: Path) -> None:
    """One fifo would block an upload thread for ever."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("fifo")
    (tmp_path / "folder").mkdir()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
        for name, told in [
            (tmp_path / "fifo", "is a fifo, not a file"),
            (tmp_path / "folder", "is a folder, not a file"),
            (tmp_path / "link", "link"),
            (tmp_path / "gone", "No such file"),
            (tmp_path / "socket", r"No such device or address|is a socket"),
            (Path("/dev/zero"), "is a device, not a file"),
        ]:
            for link in (False, True):
                with pytest.raises(SourceError, match=told):
                    store.put_file("f", SourceFile(str(name.absolute())), link=link)
    assert _keys(store) == {}


# -- a job's upload --------------------------------------------------------------------------


@dataclass
class Job:
    """A job's working folder and logs; its results are in a prefix of its own."""

    store: ResultStore
    top: Path
    id: str = field(default_factory=lambda: f"j{uuid.uuid4().hex}")

    def __post_init__(self) -> None:
        self.work = self.top / "work"
        self.work.mkdir()
        (self.top / "out").write_text("out")
        (self.top / "err").write_text("")

    def upload(self, *patterns: str, run: str = "run-1") -> UploadOutcome:
        spec = JobUpload(
            job_id=self.id,
            run_id=run,
            epoch=1,
            attempt=1,
            completed=True,
            patterns=patterns,
            working_directory=str(self.work),
            stdout=self.top / "out",
            stderr=self.top / "err",
        )
        return upload_job(self.store, Layout(), spec)

    def keys(self) -> dict[str, int]:
        return _keys(self.store, Layout().job_prefix(self.id))

    def manifest(self) -> Manifest:
        data = self.store.get_bytes(Layout().manifest_key(self.id))
        assert data is not None
        return parse_manifest(data)

    def results(self) -> dict[str, tuple[FileEntry, bytes]]:
        """The results by name: all the manifest names is there with these bytes, and no more is."""
        manifest, keys = self.manifest(), self.keys()
        del keys[Layout().manifest_key(self.id)]
        found = {}
        for file in manifest.files:
            data = _fetch(self.store, file.key)
            assert data is not None
            assert (file.size, file.sha256) == (len(data), hashlib.sha256(data).hexdigest())
            assert keys.pop(file.key) == file.size
            if not Layout().is_log(file.name):
                found[file.name] = (file, data)
        assert keys == {}
        return found


@pytest.fixture
def job(store: ResultStore, tmp_path: Path) -> Job:
    return Job(store, tmp_path)


def test_an_upload_can_be_repeated(job: Job) -> None:
    """A repetition after a crash would lose or double what is stored."""
    (job.work / "a").write_text("a")
    (job.work / "b").write_bytes(os.urandom(PART + 1))
    first = job.upload("*")
    assert (first.ok, first.problems, first.files) == (True, (), 4)
    before = job.results(), job.manifest()
    (job.work / "b").unlink()
    assert job.upload("*") == first
    assert (job.results(), job.manifest()) == before
    assert set(before[0]) == {"a", "b"}


def test_a_new_run_replaces_the_old(bed: Bed, job: Job) -> None:
    """Results of two runs would mix, and what a killed upload left stay for ever."""
    (job.work / "d").mkdir()
    for name in ("old", "both", "d/x"):
        (job.work / name).write_text("1")
    job.upload("**")
    assert set(job.results()) == {"old", "both", "d/x"}
    (job.work / "old").unlink()
    (job.work / "d/x").unlink()
    (job.work / "d").rmdir()
    (job.work / "d").write_text("2")
    (job.work / "both").write_text("2")
    assert job.upload("**", run="run-2").ok
    assert {name: data for name, (_, data) in job.results().items()} == {"d": b"2", "both": b"2"}
    assert bed.left() == []


def test_what_a_killed_upload_left_is_removed(bed: Bed, tmp_path: Path) -> None:
    """Each kill during an upload would cost space for ever."""
    job = Job(bed.store, tmp_path)
    bed.leave(f"jobs/{job.id}/d/big")
    bed.store.put_bytes(f"jobs/{job.id}/d/stored", b"before its manifest")
    (job.work / "a").write_text("a")
    assert job.upload("*").ok
    assert (set(job.results()), bed.left()) == ({"a"}, [])


def test_odd_kinds_are_told_and_never_hang(job: Job, tmp_path: Path) -> None:
    """One fifo would keep a job's other results from being stored, or a link leak a secret."""
    (job.work / "file").write_text("x")
    os.mkfifo(job.work / "fifo")
    (tmp_path / "secret").write_text("secret")
    (job.work / "leaving").symlink_to(tmp_path / "secret")
    (job.work / "dangling").symlink_to("nowhere")
    (job.work / "inside").symlink_to("file")
    (job.work / "folder").symlink_to(tmp_path)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(job.work / "socket"))
        outcome = job.upload("*", "/dev/zero")
    assert outcome.ok
    assert {name: data for name, (_, data) in job.results().items()} == {
        "file": b"x",
        "inside": b"x",
    }
    assert sorted(outcome.problems) == sorted(
        (
            f"'{job.work}/fifo' is a fifo: left out",
            f"'{job.work}/socket' is a socket: left out",
            f"'{job.work}/leaving' is a link that leaves '{job.work}': left out",
            f"'{job.work}/dangling' can't be read: No such file or directory",
            f"'{job.work}/folder' is a link to a folder: left out",
            "'/dev/zero' is a device: left out",
            "pattern '/dev/zero' matched nothing that can be stored",
        )
    )
    assert job.manifest().problems == outcome.problems


RESERVED = [b"stdout.log", b"manifest.json", b"attempts", b"_abs", TEMPORARY.encode() + b"1-1"]
LONG = [b"x" * 250, b"\xff" * 120]
PART_OF_PATH = st.sampled_from([*ODD, *RESERVED, *LONG]) | st.binary(min_size=1, max_size=8).filter(
    lambda name: not {0, 47} & set(name)
)
TREE = st.dictionaries(
    st.lists(PART_OF_PATH, min_size=1, max_size=4).map(tuple), st.binary(max_size=20), max_size=8
)
PATTERN = st.sampled_from(
    ["**", "*", "?/**", "**/*a*", "*/", "[ab]", "a", "..a", "?/*", "stdout.log"]
)
PATTERNS = st.lists(st.tuples(st.sampled_from("12"), PATTERN), min_size=1, max_size=5)


def _check_tree(
    store: ResultStore,
    top: Path,
    tree: dict[tuple[bytes, ...], bytes],
    patterns: list[tuple[str, str]],
) -> None:
    job = Job(store, top)
    made: dict[bytes, bytes] = {}
    for at, (parts, data) in enumerate(tree.items()):
        path = os.path.join(os.fsencode(job.work), b"%d" % (at % 2 + 1), *parts)
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "xb") as new:
                new.write(data)
        except OSError:
            continue  # `.`, `..`, or a file where a folder would be
        made[os.path.realpath(path)] = data
    asked = [f"{folder}/{pattern}" for folder, pattern in patterns]
    outcome = job.upload(*asked)
    assert outcome.ok
    results = job.results()
    sources = [os.fsencode(unescape(file.source)) for file, _ in results.values()]
    assert len(set(sources)) == len(sources)
    for (_, data), source in zip(results.values(), sources, strict=True):
        assert data == made[source]
    for name in results:
        Layout().local_name(name)
    for folder in {folder for folder, pattern in patterns if pattern == "**"}:
        whole = os.fsencode(job.work) + b"/" + folder.encode() + b"/"
        assert {path for path in made if path.startswith(whole)} <= set(sources)
    assert len(job.keys()) == outcome.files + 1
    assert job.upload(*asked) == outcome


@settings(max_examples=150, deadline=None)
@given(TREE, PATTERNS)
def test_any_tree_is_stored_once_and_whole_in_a_folder(
    tree: dict[tuple[bytes, ...], bytes], patterns: list[tuple[str, str]]
) -> None:
    """Some file, with some name, would be lost, doubled, changed, or written elsewhere."""
    with tempfile.TemporaryDirectory() as text:
        top = Path(text)
        _check_tree(FolderStore(top / "results"), top, tree, patterns)
        named = [path for path in (top / "results").rglob("*") if path.is_file()]
        assert all(path.is_relative_to(top / "results/jobs") for path in named)


@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # each job has its own prefix
)
@given(TREE, PATTERNS)
def test_any_tree_is_stored_once_and_whole_in_s3(
    s3_bed: Bed, tree: dict[tuple[bytes, ...], bytes], patterns: list[tuple[str, str]]
) -> None:
    """Some file, with some name, would be lost, doubled, changed, or written elsewhere."""
    with tempfile.TemporaryDirectory() as text:
        _check_tree(s3_bed.store, Path(text), tree, patterns)


def test_what_no_run_has_stored_is_not_read_whole(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An object of 100 GB under a record's name would fill the memory of whoever looks."""
    monkeypatch.setattr("runner.results.store.MAX_RECORD", 10)
    bed.store.put_bytes("fits", b"1" * 10)
    bed.store.put_bytes("queue-state.json", b"1" * 11)
    assert bed.store.get_bytes("fits") == b"1" * 10
    with pytest.raises(RefusedError, match=r"'queue-state.json' of .* has 11 bytes"):
        bed.store.get_bytes("queue-state.json")
    with pytest.raises(RefusedError):
        bed.store.get_versioned("queue-state.json")
