"""What a laptop remembers of its launches."""

from __future__ import annotations

import errno
import os
from dataclasses import astuple, replace
from pathlib import Path

import pytest

from runner.errors import LockedError, StateError
from runner.targets.ec2.launch.local_launches import Launch, Launches, SentRequest
from runner.targets.ec2.launch_record import parse
from runner.targets.ec2.queue_ref import QueueRef

LAUNCH = Launch("q", "s3://b/queues/q", "us-east-1", "l-1", 1000.0, 4600.0, digest="d")


def test_a_request_comes_back_as_it_was_sent(tmp_path: Path) -> None:
    """With one byte changed EC2 refuses the token: nobody would learn what it launched."""
    launches = Launches(tmp_path)
    asked = SentRequest(2, 1001.5, {"ClientToken": "l-1-2", "UserData": b"\x1f\x8b\x00", "N": [1]})
    launches.write(LAUNCH.having(asked=asked))
    assert launches.read(LAUNCH.ref) == LAUNCH.having(asked=asked)
    assert (launches.path(LAUNCH.ref).stat().st_mode & 0o777) == 0o600


def test_the_newest_of_the_same_command_that_nobody_was_told_of(tmp_path: Path) -> None:
    """A launch that is over would be taken up, or the one before the last."""
    launches = Launches(tmp_path)
    for queue_id, at, told, digest in (
        ("a", 1.0, False, "d"),
        ("b", 3.0, True, "d"),
        ("c", 2.0, False, "d"),
        ("e", 4.0, False, "x"),
    ):
        launches.write(
            LAUNCH.having(queue_id=queue_id, launched_at=at, open=not told, digest=digest)
        )
    found = launches.unfinished("d")
    assert found is not None and found.queue_id == "c"
    assert launches.unfinished("y") is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 2}', '{"version": 1}'])
def test_a_record_that_cannot_be_read_stops_no_launch(text: str, tmp_path: Path) -> None:
    """One bad file would lock the user out; EC2's tags know of the machine too."""
    (tmp_path / "q.json").write_text(text)
    assert Launches(tmp_path).read(LAUNCH.ref) is None
    assert Launches(tmp_path).unfinished("d") is None


def test_two_launches_at_once_are_one_too_many(tmp_path: Path) -> None:
    """A double click would make two machines."""
    launches = Launches(tmp_path / "new")
    with launches.locked("q"), launches.locked("other"):
        with pytest.raises(LockedError, match="another launch of the same is under way"):
            with launches.locked("q"):
                pass
    with launches.locked("q"):
        pass


def test_a_launch_of_another_bucket_is_not_in_the_way(tmp_path: Path) -> None:
    """Two queues of one id, each with a bucket of its own, could not be launched side by side."""
    launches, here, there = Launches(tmp_path), QueueRef("q", "s3://a/q"), QueueRef("q", "s3://b/q")
    with launches.locked(here), launches.locked(there):
        with pytest.raises(LockedError), launches.locked(here):
            pass


def test_a_record_is_read_as_it_was_written() -> None:
    """A field whose stored name is another would be lost on the way: a resume was refused so."""
    record = replace(LAUNCH.record, instance_id="i-1", options_sha256="f" * 64, document="d" * 64)
    assert all(value is not None for value in astuple(record))
    assert parse(record.plain) == record


def test_what_anybody_may_know_holds_no_request() -> None:
    """The index would be as large as the user-data, and name a machine that isn't there."""
    assert LAUNCH.record.plain == {
        "version": 1,
        "queue_id": "q",
        "store": "s3://b/queues/q",
        "region": "us-east-1",
        "launch": "l-1",
        "launched_at": "1970-01-01T00:16:40Z",
        "expires": "1970-01-01T01:16:40Z",
    }
    assert LAUNCH.having(instance_id="i-1").record.plain["instance_id"] == "i-1"


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a record would keep the disk full that it did not fit on."""

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    launches = Launches(tmp_path / "launches")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StateError, match="No space left"):
        launches.write(Launch("q", "s3://b/q", "us-east-1", "l", 1.0, 2.0))
    assert list(launches.folder.iterdir()) == []
