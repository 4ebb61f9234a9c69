"""The S3 store against a real endpoint: what no folder has, pages and prefixes and buckets.

What it has in common with the folder store is in test_stores.py, what goes wrong on the way in
tests/stress/test_s3_faults.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from s3_endpoint import Endpoint

from runner.aws.clients import S3Client
from runner.errors import UsageError
from runner.results.s3.store import S3Store
from runner.results.store import Entry


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


def test_what_is_tried_before_the_first_job_leaves_nothing(
    store: S3Store, endpoint: Endpoint, bucket: str
) -> None:
    """Every start would leave a probe behind, and somebody would pay for it."""
    store.prepare()
    assert (endpoint.keys(bucket), endpoint.open_uploads(bucket)) == ({}, [])
    with pytest.raises(UsageError, match="s3://no-such-bucket-here: there is no such bucket"):
        S3Store("no-such-bucket-here", "x").prepare()


def test_many_may_try_one_place_at_once(endpoint: Endpoint, bucket: str) -> None:
    """Of the workers of a fleet that begin together one would be told that its store is broken."""
    stores = [S3Store(bucket, "queues/q") for _ in range(6)]
    with ThreadPoolExecutor(len(stores)) as pool:
        for _ in range(3):
            assert list(pool.map(S3Store.prepare, stores)) == [[]] * len(stores)
    for each in stores:
        each.close()
    assert (endpoint.keys(bucket), endpoint.open_uploads(bucket)) == ({}, [])


def test_open_uploads_of_killed_processes_are_aborted(
    store: S3Store, endpoint: Endpoint, bucket: str
) -> None:
    """Parts of uploads that nobody ends are paid for, and no listing shows them."""
    for key in ("queues/q/jobs/j/a", "queues/other/b"):
        endpoint.client().create_multipart_upload(Bucket=bucket, Key=key)
    store.discard_unfinished("jobs/j/")
    assert endpoint.open_uploads(bucket) == ["queues/other/b"]


def test_a_store_has_its_prefix_for_itself(store: S3Store, endpoint: Endpoint, bucket: str) -> None:
    """Two queues in one bucket would see each other's results, and remove them."""
    whole, other = S3Store(bucket), S3Store(bucket, "queues/qq")
    store.put_bytes("a", b"1")
    other.put_bytes("a", b"22")
    endpoint.client().put_object(Bucket=bucket, Key="queues/q/", Body=b"")  # a console's "folder"
    assert list(store.list("")) == [Entry("a", 1)]
    assert list(other.list("")) == [Entry("a", 2)]
    assert {entry.key for entry in whole.list("")} == {"queues/q/a", "queues/qq/a"}
    assert store.describe() == f"s3://{bucket}/queues/q"
    assert whole.describe() == f"s3://{bucket}"
    for each in (whole, other):
        each.close()


def test_a_list_has_more_than_one_page(
    store: S3Store, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a job with 1,001 files the last would be missing, or never be removed."""
    keys = {f"jobs/j/{number} \n+" for number in range(25)}
    for key in keys:
        store.put_bytes(key, b"")
    pages = _in_pages_of(10, monkeypatch)
    paged = S3Store(bucket, "queues/q")
    assert {entry.key for entry in paged.list("jobs/j/")} == keys
    assert len(pages) == 3
    paged.close()


def _in_pages_of(size: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """From now on new clients ask for so few keys at once; grows with each page."""
    asked: list[int] = []
    make = S3Client._make

    def made(self: S3Client) -> Any:
        def fewer(params: dict[str, Any], **_: object) -> None:
            asked.append(size)
            params["MaxKeys"] = size

        client = make(self)
        client.meta.events.register("before-parameter-build.s3.ListObjectsV2", fewer)
        return client

    monkeypatch.setattr(S3Client, "_make", made)
    return asked
