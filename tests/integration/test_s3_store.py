"""The S3 store against a real endpoint: whole objects, bounded memory, clear refusals."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from s3_endpoint import Endpoint

from runner.errors import UsageError
from runner.results.s3 import S3Store
from runner.results.source import Source
from runner.results.store import ChangedError


@pytest.fixture
def bucket(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in endpoint.env.items():
        monkeypatch.setenv(name, value)
    return endpoint.bucket()


@pytest.fixture
def store(bucket: str) -> Iterator[S3Store]:
    store = S3Store(bucket, "queues/q")
    yield store
    store.close()


@pytest.mark.parametrize("size", [0, 1, 8 << 20, (8 << 20) + 1, 30_000_000])
def test_a_file_goes_up_and_comes_back(
    store: S3Store, endpoint: Endpoint, bucket: str, tmp_path: Path, size: int
) -> None:
    """A result would differ from what the job wrote, or a multipart upload stay open."""
    path = tmp_path / "f"
    path.write_bytes(os.urandom(size))
    stored = store.put_file("jobs/j/f", Source(os.path.realpath(path)))
    assert (stored.size, stored.sha256) == (size, hashlib.sha256(path.read_bytes()).hexdigest())
    with open(tmp_path / "back", "w+b") as target:
        assert store.get_file("jobs/j/f", target.fileno())
        assert not store.get_file("jobs/j/none", target.fileno())
    assert (tmp_path / "back").read_bytes() == path.read_bytes()
    assert endpoint.keys(bucket) == {"queues/q/jobs/j/f": size}
    assert endpoint.open_uploads(bucket) == []


def test_what_is_tried_before_the_first_job_leaves_nothing(
    store: S3Store, endpoint: Endpoint, bucket: str
) -> None:
    """Every start would leave a probe behind, and somebody would pay for it."""
    store.prepare()
    assert (endpoint.keys(bucket), endpoint.open_uploads(bucket)) == ({}, [])
    with pytest.raises(UsageError, match="s3://no-such-bucket-here: there is no such bucket"):
        S3Store("no-such-bucket-here", "x").prepare()


def test_a_swap_is_only_for_who_has_seen_the_last_one(store: S3Store) -> None:
    """A machine that comes back late would write over what its successor has written."""
    first = store.swap_bytes("queue-state.json", b"1", None)
    with pytest.raises(ChangedError):
        store.swap_bytes("queue-state.json", b"2", None)
    second = store.swap_bytes("queue-state.json", b"2", first)
    with pytest.raises(ChangedError):
        store.swap_bytes("queue-state.json", b"3", first)
    found = store.get_versioned("queue-state.json")
    assert found is not None and (found.data, found.version) == (b"2", second)


def test_open_uploads_of_killed_processes_are_aborted(
    store: S3Store, endpoint: Endpoint, bucket: str
) -> None:
    """Parts of uploads that nobody ends are paid for, and no listing shows them."""
    for key in ("queues/q/jobs/j/a", "queues/other/b"):
        endpoint.client().create_multipart_upload(Bucket=bucket, Key=key)
    store.discard_unfinished("jobs/j/")
    assert endpoint.open_uploads(bucket) == ["queues/other/b"]
