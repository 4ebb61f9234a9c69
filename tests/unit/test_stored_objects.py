"""Small objects of a bucket, as programs read them."""

from __future__ import annotations

import pytest

from runner.targets.ec2.bucket import StoredText

FOREIGN = [
    b"",
    b"[1]",
    b"\xff",
    b"{",
    b"[" * 50_000,
    b'{"a": NaN}',
    b'{"a": 1' + b"0" * 5000 + b"}",
]


@pytest.mark.parametrize("data", FOREIGN, ids=range(len(FOREIGN)))
def test_what_is_no_json_object_holds_nothing(data: bytes) -> None:
    """An odd object in the bucket would be an internal error of every launch of its queue."""
    assert StoredText(data, "etag", 0.0).json == {}


def test_an_object_holds_what_it_says() -> None:
    """No queue would be found by the index."""
    assert StoredText(b'{"launch": "l"}\n', "etag", 0.0).json == {"launch": "l"}
