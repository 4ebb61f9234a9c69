"""The folder store: every file whole or not there, whatever goes wrong.

What it has in common with the S3 store is in test_stores.py.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from runner.errors import UsageError
from runner.results.folder import FolderStore
from runner.results.store import Entry, ResultStore, StoreError
from runner.results.upload.source_file import SourceFile


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "not" / "yet" / "there"


@pytest.fixture
def store(root: Path) -> ResultStore:
    return FolderStore(root)


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Writing past so many bytes of a file fails, as it does on a full disk.

    Not a fixture: between a test's body and its teardown pytest reports, perhaps into a file.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def _source(path: Path) -> SourceFile:
    return SourceFile(os.path.realpath(path))


def _files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("size", [0, 1, 65_537, (1 << 20), (1 << 20) + 1, 3_000_000])
@pytest.mark.parametrize("durable", [False, True])
def test_a_stored_file_is_its_source(
    store: ResultStore, root: Path, tmp_path: Path, size: int, durable: bool
) -> None:
    """A result would differ from what the job wrote."""
    data = os.urandom(size)
    path = tmp_path / "f"
    path.write_bytes(data)
    path.chmod(0o2751)
    os.utime(path, ns=(1, 1_600_000_000_123_456_789))
    stored = store.put_file("jobs/j/x/f", _source(path), durable=durable)
    store.flush("jobs/j/")
    copy = root / "jobs/j/x/f"
    assert copy.read_bytes() == data
    assert (stored.size, stored.sha256) == (size, hashlib.sha256(data).hexdigest())
    assert (stored.mtime_ns, stored.mode, stored.changed) == (
        1_600_000_000_123_456_789,
        0o751,
        False,
    )
    assert (copy.stat().st_mtime_ns, copy.stat().st_mode) == (stored.mtime_ns, 0o100751)
    assert copy.stat().st_ino != path.stat().st_ino
    assert _files(root) == {"jobs/j/x/f"}


def test_a_cloned_file_is_hashed_as_it_arrived(
    store: ResultStore, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On btrfs and XFS the sha256 would be of other bytes than the clone has."""
    path = tmp_path / "f"
    path.write_bytes(b"x" * 5_000)

    def clone(target: int, _: int, fd: int) -> None:
        os.sendfile(target, fd, 0, 1 << 20)

    monkeypatch.setattr(fcntl, "ioctl", clone)
    stored = store.put_file("f", _source(path))
    assert (root / "f").read_bytes() == path.read_bytes()
    assert (stored.size, stored.sha256) == (5_000, hashlib.sha256(b"x" * 5_000).hexdigest())


def test_a_sparse_file_stays_sparse(store: ResultStore, root: Path, tmp_path: Path) -> None:
    """A sparse file of 1 GiB would fill the disk, and its sha256 must still be of all its bytes."""
    path = tmp_path / "f"
    with path.open("wb") as file:
        file.seek(8 << 20)
        file.write(b"x")
        file.truncate(32 << 20)
    stored = store.put_file("f", _source(path))
    assert stored.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (root / "f").read_bytes() == path.read_bytes()
    assert (root / "f").stat().st_blocks * 512 < 4 << 20


def test_listing_shows_keys_only(store: ResultStore, root: Path) -> None:
    """A half file would be shown as a result."""
    for key in ["jobs/j/a", "jobs/j/b/c"]:
        store.put_bytes(key, key.encode())
    (root / "jobs/j/.runner-tmp-1-1").write_bytes(b"half")
    (root / "jobs/j/link").symlink_to("a")
    with open(os.fsencode(root) + b"/jobs/j/\xff", "wb"):
        pass
    assert set(store.list("jobs/j/")) == {Entry("jobs/j/a", 8), Entry("jobs/j/b/c", 10)}


def test_deleting_leaves_no_empty_folders(store: ResultStore, root: Path) -> None:
    """Old folders would stand in the way of a file with their name."""
    store.put_bytes("jobs/j/a/b/c", b"")
    store.put_bytes("jobs/j/m", b"")
    store.delete("jobs/j/a/b/c")
    store.delete("jobs/j/a/b/c")
    store.delete("jobs/none/x")
    assert sorted(os.listdir(root / "jobs/j")) == ["m"]
    store.delete("jobs/j/m")
    assert os.listdir(root) == ["jobs"]


def test_leftovers_are_removed(store: ResultStore, root: Path) -> None:
    """Each kill during an upload would cost disk space for ever."""
    store.put_bytes("jobs/j/a", b"")
    (root / "jobs/j/b/c").mkdir(parents=True)
    for left in ["jobs/j/.runner-tmp-1-1", "jobs/j/b/c/.runner-tmp-1-2", ".runner-tmp-1-3"]:
        (root / left).write_bytes(b"half")
    store.clean_up("jobs/j/")
    assert os.listdir(root / "jobs/j") == ["a"]
    store.prepare()
    assert _files(root) == {"jobs/j/a"}


@pytest.mark.parametrize("key", ["../x", "/x", "a//b", "a/../../x", "a/.", "a\0b"])
def test_a_key_never_leaves_the_store(store: ResultStore, key: str) -> None:
    """A bug in naming could overwrite any file of the machine."""
    with pytest.raises(ValueError, match="not a key"):
        store.put_bytes(key, b"")


def test_a_file_in_the_place_of_the_folder(tmp_path: Path) -> None:
    """`--results FILE` would fail with a traceback after the first job instead of before it."""
    (tmp_path / "f").write_text("mine")
    for root in [tmp_path / "f", tmp_path / "f" / "below"]:
        with pytest.raises(UsageError, match="there is a file in its place"):
            FolderStore(root).prepare()
        with pytest.raises(StoreError, match="can't be stored"):
            FolderStore(root).put_bytes("x", b"")
    assert (tmp_path / "f").read_text() == "mine"


def test_no_room_leaves_nothing_behind(store: ResultStore, root: Path, tmp_path: Path) -> None:
    """A full disk would stay full, with half a result that looks like a whole one."""
    path = tmp_path / "big"
    path.write_bytes(b"x" * 65_536)
    store.put_file("jobs/j/f", _source(path))
    with files_of_at_most(4_096):
        with pytest.raises(StoreError, match=r"can't be stored in .*: File too large"):
            store.put_file("jobs/j/f", _source(path))
        with pytest.raises(StoreError, match=r"can't be stored in .*: File too large"):
            store.put_bytes("jobs/j/b", b"x" * 65_536)
    assert _files(root) == {"jobs/j/f"}
    assert (root / "jobs/j/f").stat().st_size == 65_536


@pytest.mark.parametrize("data", [b"", b"some log"])
@pytest.mark.parametrize("durable", [False, True])
def test_a_linked_file_shares_its_blocks(
    store: ResultStore, root: Path, tmp_path: Path, data: bytes, durable: bool
) -> None:
    """A log of 1 GiB would be written twice."""
    path = tmp_path / "log"
    path.write_bytes(data)
    source = SourceFile(str(path), ours=True)
    first = store.put_file("jobs/j/log", source, link=True, durable=durable)
    assert store.put_file("jobs/j/log", source, link=True, durable=durable) == first
    assert (root / "jobs/j/log").samefile(path)
    assert (first.size, first.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert path.stat().st_nlink == 2


def test_a_linked_file_replaces_what_was_there(
    store: ResultStore, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A retry's log would not replace the one before, or leave a temporary behind."""
    (tmp_path / "1").write_text("one")
    (tmp_path / "2").write_text("two")
    store.put_file("jobs/j/log", SourceFile(str(tmp_path / "1")), link=True)
    store.put_file("jobs/j/log", SourceFile(str(tmp_path / "2")), link=True)
    assert (root / "jobs/j/log").read_text() == "two"
    assert (tmp_path / "1").read_text() == "one"
    # rename(2) of two links to one file does nothing: reached when the link appears meanwhile.
    monkeypatch.setattr(os.path, "samestat", lambda *_: False)
    store.put_file("jobs/j/log", SourceFile(str(tmp_path / "2")), link=True)
    assert _files(root) == {"jobs/j/log"}


def test_a_copy_over_a_link_spares_the_original(
    store: ResultStore, root: Path, tmp_path: Path
) -> None:
    """Storing a new version would overwrite the job's own log through the link."""
    (tmp_path / "1").write_text("one")
    (tmp_path / "2").write_text("two")
    store.put_file("log", SourceFile(str(tmp_path / "1")), link=True)
    store.put_file("log", SourceFile(str(tmp_path / "2")))
    assert ((root / "log").read_text(), (tmp_path / "1").read_text()) == ("two", "one")


@pytest.mark.parametrize("refusal", [errno.EXDEV, errno.EPERM, errno.EMLINK])
def test_where_no_link_can_be_it_is_copied(
    store: ResultStore, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: int
) -> None:
    """Logs on another file system than the results would not be stored at all."""

    def link(*_: object, **__: object) -> None:
        raise OSError(refusal, os.strerror(refusal))

    path = tmp_path / "log"
    path.write_text("text")
    monkeypatch.setattr(os, "link", link)
    assert store.put_file("jobs/j/log", SourceFile(str(path)), link=True).size == 4
    assert (root / "jobs/j/log").read_text() == "text"
    assert not (root / "jobs/j/log").samefile(path)


def test_a_folder_in_the_place_of_a_file_is_told(store: ResultStore, root: Path) -> None:
    """Somebody's folder in the results would be removed, or end in a traceback."""
    (root / "jobs/j/a/mine").mkdir(parents=True)
    with pytest.raises(StoreError, match=r"'jobs/j/a' can't be stored .* Is a directory"):
        store.put_bytes("jobs/j/a", b"")
    assert os.listdir(root / "jobs/j") == ["a"]
