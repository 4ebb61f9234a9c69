"""How a result store is written in one word."""

from __future__ import annotations

import pytest

from runner.errors import UsageError
from runner.results.stores import open_store, parse_s3


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("s3://bucket", ("bucket", "")),
        ("s3://bucket/", ("bucket", "")),
        ("s3://bucket/a", ("bucket", "a")),
        ("s3://my.bucket-1/a/b c/", ("my.bucket-1", "a/b c")),
    ],
)
def test_a_store_in_s3_is_a_bucket_and_a_prefix(url: str, parts: tuple[str, str]) -> None:
    """Results would be looked for under another prefix than they were stored under."""
    assert parse_s3(url) == parts
    store = open_store(url)
    assert store.describe() == url.removesuffix("/")
    store.close()


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("s3://", "the bucket must not be empty"),
        ("s3:///x", "the bucket must not be empty"),
        ("s3://Bucket/x", '"Bucket" is not a bucket\'s name'),
        ("s3://b/x", '"b" is not a bucket'),
        ("s3://127.0.0.1/x", "is not a bucket"),
        ("s3://bucket//x", "the prefix must not begin or end with '/'"),
        ("s3://bucket//", "the prefix must not begin or end with '/'"),
        ("s3://bucket/x//", "the prefix must not begin or end with '/'"),
        ("s3://bucket/a//b", "must not hold '//'"),
        ("s3://bucket/a/../b", "may be '.' or '..'"),
        ("s3://bucket/" + "x" * 513, "the prefix is too long"),
        ("S3://bucket/x", "are written s3://bucket/prefix"),
        ("s3:/bucket/x", "are written s3://bucket/prefix"),
        ("s3:bucket/x", "are written s3://bucket/prefix"),
        ("https://bucket.s3.amazonaws.com/x", "are written s3://bucket/prefix"),
        ("arn:aws:s3:::bucket/x", "are written s3://bucket/prefix"),
        ("gs://bucket/x", 'a folder of that name would be "./gs://bucket/x"'),
        ("", "no folder"),
        ("a\0b", "no folder"),
    ],
)
def test_what_can_be_no_store_is_told(url: str, told: str) -> None:
    """A typing error would end in a bucket of somebody else, or a folder called "s3:"."""
    with pytest.raises(UsageError) as caught:
        open_store(url)
    assert told in str(caught.value)


@pytest.mark.parametrize("name", ["./s3:/bucket", "/a:/b", "2024-01:/x", "c", "a b:c/d"])
def test_a_folder_may_have_an_odd_name(name: str) -> None:
    """Results could not be kept in a folder that was there before."""
    open_store(name).close()
