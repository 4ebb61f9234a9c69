"""Fetching inputs, file by file: what is there isn't fetched, and nothing leaves its folder."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from s3_endpoint import Endpoint, env_for
from s3_faults import EXPIRED, GET, Answer, FaultProxy, Flip, Match, Truncate

from runner.model.document import InputSpec
from runner.results.download.inputs import CalledOff, InputError, InputsWanted, fetch_inputs
from runner.results.s3 import multipart_upload
from runner.results.s3.store import S3Store
from runner.results.store import Entry, StoreError
from runner.results.upload.source_file import SourceFile

SMALL_PART = 5 << 20
LOOK = "bytes=0-0"
"""What an upload asks first: whether the file is there already."""
BACKOFF = "botocore.retries.standard.ExponentialBackoff.delay_amount"


class Keys:
    """A bucket in memory, with any key there can be; ``got`` are the keys that were fetched."""

    parallel = 3

    def __init__(self, **files: bytes) -> None:
        self.files = dict(files)
        self.got: list[str] = []
        self.before: Callable[[str], object] = len

    def _entry(self, key: str) -> Entry:
        data = self.files[key]
        return Entry(key, len(data), f'"{hashlib.md5(data).hexdigest()}"')

    def look_up(self, key: str) -> Entry | None:
        return self._entry(key) if key in self.files else None

    def list(self, prefix: str) -> Iterator[Entry]:
        return (self._entry(key) for key in list(self.files) if key.startswith(prefix))

    def get_version(self, entry: Entry, target: int, between: Callable[[], None]) -> str:
        self.before(entry.key)
        between()
        self.got.append(entry.key)
        os.write(target, self.files[entry.key])
        return entry.etag


class Bench:
    """A job's folder and what is fetched into it."""

    def __init__(self, top: Path) -> None:
        self.home = top / "home"
        self.home.mkdir()
        self.record = top / "queue/inputs/job.json"

    def wanted(self, s3: str, path: str, **more: Any) -> InputsWanted:
        paths = (InputSpec(s3, path),)
        return InputsWanted(paths, str(self.home), self.record, **more)

    def fetch(self, store: Any, s3: str = "s3://bkt/d/", path: str = "in/", **more: Any) -> int:
        return fetch_inputs(lambda _: store, self.wanted(s3, path, **more))

    @property
    def files(self) -> dict[str, bytes]:
        return {
            str(path.relative_to(self.home)): path.read_bytes()
            for path in self.home.rglob("*")
            if path.is_file()
        }


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_what_is_there_is_not_fetched_again(bench: Bench) -> None:
    """Every start would download everything."""
    keys = Keys(**{"d/a": b"1", "d/b/c": b"22"})
    assert bench.fetch(keys) == 2
    assert bench.files == {"in/a": b"1", "in/b/c": b"22"}
    assert bench.fetch(keys) == 0
    bench.record.unlink()
    assert bench.fetch(keys) == 0, "the bytes themselves say so, too"
    assert sorted(keys.got) == ["d/a", "d/b/c"]


def test_what_has_changed_on_either_side_is_fetched_again(bench: Bench) -> None:
    """A job would read old data, or data that another job has written over."""
    keys = Keys(**{"d/a": b"1", "d/b": b"2", "d/c": b"3"})
    bench.fetch(keys)
    (bench.home / "in/a").write_bytes(b"x")
    (bench.home / "in/b").unlink()
    keys.files["d/c"] = b"4"
    assert bench.fetch(keys) == 3
    assert bench.files == {"in/a": b"1", "in/b": b"2", "in/c": b"4"}


def test_an_unreadable_record_costs_a_look(bench: Bench) -> None:
    """A torn file of our own would fail the job."""
    keys = Keys(**{"d/a": b"1"})
    for text in ("", "[]", '{"files": {"a": 1}}', '{"files": 5}'):
        bench.record.parent.mkdir(parents=True, exist_ok=True)
        bench.record.write_text(text)
        bench.fetch(keys)
    assert keys.got == ["d/a"]
    assert json.loads(bench.record.read_text())["files"]


@pytest.mark.parametrize("name", ["../x", "a/../../x", "a//b", "/etc/x", ".", "a/.", "..", "a\0b"])
def test_no_key_leads_out_of_the_folder(bench: Bench, name: str) -> None:
    """Whoever may write to a bucket could write anywhere on the machine."""
    with pytest.raises(InputError, match="can't be a path in a folder"):
        bench.fetch(Keys(**{f"d/{name}": b"evil"}))
    assert bench.files == {}


def test_one_key_that_can_be_no_name_is_refused(bench: Bench) -> None:
    """`..` would be a file's name."""
    with pytest.raises(InputError, match=r"the key 'd/\.\.' can't be"):
        bench.fetch(Keys(**{"d/..": b"1"}), "s3://bkt/d/..")
    assert bench.fetch(Keys(**{"d/..": b"1"}), "s3://bkt/d/..", "name") == 1


def test_no_link_leads_out_of_the_folder(bench: Bench, tmp_path: Path) -> None:
    """A link that a job has left would take the next job's inputs somewhere else."""
    (tmp_path / "outside").mkdir()
    (bench.home / "in").mkdir()
    (bench.home / "in/sub").symlink_to(tmp_path / "outside")
    (bench.home / "in/gone").symlink_to(tmp_path / "nothing")
    for key in ("d/sub/x", "d/sub/deep/x", "d/gone/x"):
        with pytest.raises(InputError, match="leads out of the folder"):
            bench.fetch(Keys(**{key: b"1"}))
    assert list((tmp_path / "outside").iterdir()) == []
    assert not (tmp_path / "nothing").exists()
    (bench.home / "in/x").symlink_to(tmp_path / "outside/file")
    bench.fetch(Keys(**{"d/x": b"1"}))
    assert (bench.home / "in/x").read_bytes() == b"1"
    assert not (bench.home / "in/x").is_symlink(), "the link itself is replaced"
    (tmp_path / "data").mkdir()
    (bench.home / "linked").symlink_to(tmp_path / "data")
    bench.fetch(Keys(**{"d/x": b"1"}), path="linked/")
    assert (tmp_path / "data/x").exists(), "the folder itself is the user's to choose"


def test_what_a_killed_fetch_left_is_cleaned_up(bench: Bench) -> None:
    """Half a file would lie in the job's data, and be read as a part of it."""
    (bench.home / "in").mkdir()
    (bench.home / "in/.runner-tmp-999999999-0").write_bytes(b"half")
    bench.fetch(Keys(**{"d/a": b"1"}))
    assert bench.files == {"in/a": b"1"}


def test_no_room_passes_and_a_wrong_place_does_not(bench: Bench) -> None:
    """A full disk would fail a job for good, or a wrong path be tried for ever."""
    keys = Keys(**{"d/a": b"1"})
    with pytest.raises(StoreError, match=r"no room: .* needs 1 bytes, and .* are kept in reserve"):
        bench.fetch(keys, reserve=1 << 62)
    (bench.home / "file").write_bytes(b"")
    with pytest.raises(InputError, match="can't be written: "):
        bench.fetch(keys, path="file/")
    (bench.home / "folder").mkdir()
    with pytest.raises(InputError, match="folder' can't be written: "):
        bench.fetch(keys, "s3://bkt/d/a", "folder")
    with pytest.raises(InputError, match="working directory /none does not exist"):
        fetch_inputs(
            lambda _: keys, InputsWanted((InputSpec("s3://b/d/", "in/"),), "/none", bench.record)
        )


def test_trouble_with_one_file_takes_nothing_from_the_others(bench: Bench) -> None:
    """One key that keeps failing would keep large files beside it from ever being whole."""
    keys = Keys(**{f"d/{n}": b"1" for n in range(200)})
    begun, failed = threading.Event(), threading.Event()

    def before(key: str) -> None:
        if key == "d/0":
            assert begun.wait(10)
            failed.set()
            raise StoreError("503 SlowDown")
        begun.set()
        assert failed.wait(10)

    keys.before = before
    with pytest.raises(StoreError, match="503 SlowDown"):
        bench.fetch(keys)
    came = len(bench.files)
    assert 0 < came < 199, "what was under way came, and nothing new was begun"
    keys.before = len
    assert bench.fetch(keys) == 200 - came


def test_a_definite_error_ends_what_is_under_way(bench: Bench) -> None:
    """A wrong path would be told after hours of download."""
    keys = Keys(**{"d/a": b"1", "d/file/x": b"1"})
    (bench.home / "in").mkdir()
    (bench.home / "in/file").write_bytes(b"")
    failed = threading.Event()

    class Slow(Keys):
        def get_version(self, entry: Entry, target: int, between: Callable[[], None]) -> str:
            failed.wait(0.1)
            for _ in range(1000):
                between()
                failed.wait(0.01)
            return super().get_version(entry, target, between)

    slow = Slow(**keys.files)
    with pytest.raises(InputError, match=r"Not a directory|File exists"):
        bench.fetch(slow)
    assert slow.got == []


def test_a_fetch_that_is_called_off_ends_and_keeps_what_it_has(bench: Bench) -> None:
    """A cancelled job's download would go on, or a stop throw away what has come."""
    keys = Keys(**{f"d/{n:02}": b"1" for n in range(20)})
    wanted = bench.wanted("s3://bkt/d/", "in/")
    keys.before = lambda key: wanted.called_off.set() if key == "d/10" else None
    with pytest.raises(CalledOff):
        fetch_inputs(lambda _: keys, wanted)
    came = len(bench.files)
    assert 0 < came < 14
    keys.before = len
    assert bench.fetch(keys) == 20 - came


def test_what_another_job_fetched_to_the_same_place_is_there(bench: Bench) -> None:
    """Ten jobs that read one data set would fetch it ten times, one under the other's hands."""
    parts = Told(f'"{32 * "0"}-3"')
    assert bench.fetch(parts, "s3://b/k", "k") == 1
    count = len(parts.got)
    bench.record = bench.record.with_name("other.json")
    assert bench.fetch(parts, "s3://b/k", "k") == 0
    assert len(parts.got) == count


class Told(Keys):
    """A bucket whose keys have this ETag, and of whose bytes it tells another."""

    def __init__(self, etag: str) -> None:
        super().__init__(k=b"1")
        self.etag = etag

    def look_up(self, key: str) -> Entry | None:
        return Entry(key, 1, self.etag)

    def get_version(self, entry: Entry, target: int, between: Callable[[], None]) -> str:
        super().get_version(entry, target, between)
        return '"other"'


def test_other_bytes_than_the_etag_says(bench: Bench) -> None:
    """Wrong bytes would be taken; or a file whose parts have odd sizes never be."""
    whole, parts = Told(f'"{32 * "0"}"'), Told(f'"{32 * "0"}-3"')
    with pytest.raises(StoreError, match="s3://b/k: 'k' came with other bytes than were stored"):
        bench.fetch(whole, "s3://b/k", "k")
    assert (len(whole.got), bench.files) == (3, {})
    assert bench.fetch(parts, "s3://b/k", "k") == 1
    assert len(parts.got) == 2, "the same bytes came twice"


# -- the S3 side ---------------------------------------------------------------------------------


@pytest.fixture
def proxy(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    proxy = FaultProxy(endpoint.port)
    for name, value in env_for(proxy.url).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(multipart_upload, "PART", SMALL_PART)
    monkeypatch.setattr(BACKOFF, lambda *_: 0.0)
    yield proxy
    proxy.close()


@pytest.fixture
def store(endpoint: Endpoint, proxy: FaultProxy) -> Iterator[S3Store]:
    store = S3Store(endpoint.bucket())
    yield store
    store.close()


def test_a_large_file_comes_in_ranges_and_is_checked_part_by_part(
    bench: Bench, store: S3Store, endpoint: Endpoint, proxy: FaultProxy, tmp_path: Path
) -> None:
    """One stream is a tenth of the network's speed, and a flipped bit in it nobody would see."""
    bucket = store.describe().removeprefix("s3://")
    data = os.urandom(2 * SMALL_PART + 77)
    (tmp_path / "data").write_bytes(data)
    store.put_file("d/parts", SourceFile(str(tmp_path / "data")))
    endpoint.client().put_object(Bucket=bucket, Key="d/whole", Body=data)
    proxy.fail(Match("GET", key="d/parts"), Flip(), skip=1)
    proxy.fail(Match("GET", key="d/whole"), Truncate(), skip=2, times=3)
    assert bench.fetch(store, f"s3://{bucket}/d/") == 2
    assert bench.files == {"in/parts": data, "in/whole": data}
    parts = [
        each for each in proxy.seen(Match("GET", key="d/parts")) if each.headers["range"] != LOOK
    ]
    assert len(parts) == 6, "three ranges, and all of them again"
    pinned = [each for each in proxy.seen(GET) if each.headers.get("if-match")]
    assert len(pinned) == 12, "those, and of the whole one three ranges that were gone on with"


def test_a_version_that_goes_while_it_is_fetched_is_trouble_that_passes(
    bench: Bench, store: S3Store, endpoint: Endpoint, proxy: FaultProxy
) -> None:
    """Half of the old and half of the new version would be taken for a file."""
    bucket = store.describe().removeprefix("s3://")
    endpoint.client().put_object(Bucket=bucket, Key="k", Body=b"x" * (SMALL_PART + 1))
    change = lambda: endpoint.client().put_object(Bucket=bucket, Key="k", Body=b"new")  # noqa: E731
    rule = proxy.fail(GET, Answer(412, "PreconditionFailed"), skip=1, before=change)
    with pytest.raises(StoreError, match="PreconditionFailed"):
        bench.fetch(store, f"s3://{bucket}/k", "k")
    assert rule.done == 1
    assert bench.fetch(store, f"s3://{bucket}/k", "k") == 1
    assert bench.files == {"k": b"new"}


def test_empty_files_and_odd_keys_come_too(
    bench: Bench, store: S3Store, endpoint: Endpoint
) -> None:
    """A marker file, or a name with a plus in it, would be missing."""
    bucket = store.describe().removeprefix("s3://")
    names = ["empty", "a b+c%20é", "{x}", "new\nline"]
    for name in [*names, "folder/"]:
        body = b"" if name in ("empty", "folder/") else name.encode()
        endpoint.client().put_object(Bucket=bucket, Key=f"d/{name}", Body=body)
    assert bench.fetch(store, f"s3://{bucket}/") == 4
    assert set(bench.files) == {f"in/d/{name}" for name in names}
    assert bench.files["in/d/a b+c%20é"] == "a b+c%20é".encode()


def test_expired_keys_are_renewed_also_where_a_head_can_not_say_so(
    bench: Bench, store: S3Store, endpoint: Endpoint, proxy: FaultProxy
) -> None:
    """A role's keys that expire at the wrong moment would fail a job for good."""
    bucket = store.describe().removeprefix("s3://")
    endpoint.client().put_object(Bucket=bucket, Key="k", Body=b"1")
    proxy.fail(Match("HEAD"), EXPIRED)
    proxy.fail(GET, EXPIRED)
    assert bench.fetch(store, f"s3://{bucket}/k", "k") == 1


def test_what_is_denied_is_definite_and_names_the_permission(
    bench: Bench, store: S3Store, endpoint: Endpoint, proxy: FaultProxy
) -> None:
    """A missing permission would be waited for, or be hard to find."""
    bucket = store.describe().removeprefix("s3://")
    endpoint.client().put_object(Bucket=bucket, Key="k", Body=b"1")
    proxy.fail(Match("HEAD"), Answer(403, "AccessDenied"))
    proxy.fail(GET, Answer(403, "AccessDenied"))
    with pytest.raises(InputError, match=f"input s3://{bucket}/k: .* permission s3:GetObject"):
        bench.fetch(store, f"s3://{bucket}/k", "k")
