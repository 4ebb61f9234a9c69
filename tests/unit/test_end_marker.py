"""Whether a machine may be ended now: what was put onto it since, and who was asleep meanwhile."""

from __future__ import annotations

from typing import Any, cast

import pytest

from runner.aws.errors import AwsError, ErrorKind
from runner.errors import ConflictError
from runner.targets.ec2 import names
from runner.targets.ec2.bucket import LaunchBucket
from runner.targets.ec2.end.end_marker import RENEWED, TRIES, Agreed, EndGuard, UnmarkedError
from runner.targets.ec2.queue_ref import QueueRef

MINE = QueueRef("q", "s3://b/queues/q")


class Fake:
    """A bucket. ``naps``: seconds that pass while each put is answered."""

    name = "b"

    def __init__(self) -> None:
        self.now = 0.0
        self.naps: list[float] = []
        self.keys_there: dict[str, str] = {}
        self.puts = 0
        self.trouble: AwsError | None = None

    def put_json(self, key: str, value: dict[str, Any]) -> None:
        if self.trouble is not None:
            raise self.trouble
        self.puts += 1
        self.keys_there[key] = str(self.puts)
        self.now += self.naps.pop(0) if self.naps else 0.0

    def etags(self, prefix: str) -> dict[str, str]:
        return {key: etag for key, etag in self.keys_there.items() if key.startswith(prefix)}

    def keys(self, prefix: str) -> list[str]:
        return list(self.etags(prefix))

    def delete(self, key: str) -> None:
        self.keys_there.pop(key, None)


def guard(fake: Fake, agreed: Agreed, said: list[str] | None = None) -> EndGuard:
    say = (said if said is not None else []).append
    return EndGuard(cast(LaunchBucket, fake), "i-1", agreed, say, lambda: fake.now)


def line(queue_id: str, store: str = "s3://b/x") -> str:
    return names.machine_line("i-1", queue_id, store)


def test_what_nobody_has_named_is_new_by_its_identity() -> None:
    """A queue would be ended for the id that it shares; or the named one keep its machine."""
    lines = {line("q", MINE.store): "1", line("q", "s3://theirs/q"): "1", line("old"): "1"}
    seen = {line("old"): "1"}
    assert Agreed(named=[MINE], lines=seen).unagreed("i-1", lines) == ["q"]
    assert Agreed(named=[QueueRef("q", "")], lines=seen).unagreed("i-1", lines) == []
    assert Agreed(lines={line("old"): "0"}).unagreed("i-1", {line("old"): "1"}) == ["old"]
    assert Agreed(whole=True, lines=seen).unagreed("i-1", lines) == ["q", "q"]


def test_after_a_pause_the_machine_is_marked_and_looked_at_again() -> None:
    """A laptop that slept would end a machine whose marker nobody believed any more."""
    fake = Fake()
    checked = guard(fake, Agreed(named=[MINE], lines={}))
    checked.check()
    fake.now = RENEWED - 1
    checked.check()
    assert fake.puts == 1, "not before each end"
    fake.now = RENEWED
    fake.keys_there[line("other")] = "x"
    with pytest.raises(ConflictError, match="i-1 has queue 'other' too"):
        checked.check()
    assert fake.puts == 2


def test_a_pause_while_the_marker_is_written_counts_too() -> None:
    """The answer would reach a laptop that slept on it, and what came meanwhile be lost."""
    fake = Fake()
    fake.naps = [RENEWED]
    guard(fake, Agreed(lines={})).check()
    assert fake.puts == 2, "it was written before the pause"
    fake.naps = [RENEWED] * TRIES
    with pytest.raises(UnmarkedError, match="sleeps again and again"):
        guard(fake, Agreed(whole=True, lines={})).check()


def test_a_list_that_could_not_be_read_before_keeps_no_machine_that_was_named() -> None:
    """A machine that costs money could never be ended."""
    fake, said = Fake(), list[str]()
    fake.keys_there[line("other")] = "x"
    guard(fake, Agreed(whole=True), said).check()
    assert said == ["i-1 has queue 'other' too, and is ended with it"]
    with pytest.raises(ConflictError, match="i-1 has queue 'other' too"):
        guard(fake, Agreed(named=[MINE])).check()
    guard(fake, Agreed(named=[MINE], others=True)).check()


@pytest.mark.parametrize("kind", [ErrorKind.DENIED, ErrorKind.PASSING])
def test_a_bucket_that_can_not_be_told_keeps_what_others_may_use(kind: ErrorKind) -> None:
    """A queue would be lost unseen; or a machine cost money for as long as S3 refuses."""
    fake, said = Fake(), list[str]()
    fake.trouble = AwsError(kind, "Some", "words")
    with pytest.raises(UnmarkedError, match="all the same: runner terminate i-1"):
        guard(fake, Agreed(named=[MINE], lines={})).check()
    for agreed in (Agreed(whole=True, lines={}), Agreed(named=[MINE], others=True, lines={})):
        guard(fake, agreed, said).check()
    assert len(said) == 2 and "s3://b can't be told that i-1 is about to be ended" in said[0]
    fake.trouble = AwsError(ErrorKind.MISSING, "NoSuchBucket", "none")
    guard(fake, Agreed(named=[MINE], lines={}), said).check()
    assert len(said) == 2, "nobody can put a queue onto it either"


def test_a_marker_is_taken_away_by_whoever_wrote_it_or_has_seen_the_end() -> None:
    """A machine that lives on would take no queue for a while; or markers stay for ever."""
    fake = Fake()
    mine, theirs = guard(fake, Agreed(lines={})), guard(fake, Agreed(lines={}))
    mine.check()
    theirs.check()
    mine.withdraw()
    assert len(fake.keys(names.ending_folder("i-1"))) == 1
    mine.check()
    assert len(fake.keys(names.ending_folder("i-1"))) == 2
    theirs.clear()
    assert fake.keys(names.ending_folder("i-1")) == []
