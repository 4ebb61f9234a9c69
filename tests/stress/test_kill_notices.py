"""The runner is SIGKILLed at each write and around each notice: everybody is told all the same."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from kill_queues import Document, job, queue
from kill_steps import KillAt, Launcher, sweep
from kill_support import World
from receiver import Manner, Receiver

EXPECTED = {"first_failure", "failed"}
DELIVERY = "Sender.deliver"


def manner(path: str, key: str, number: int) -> Manner:
    """Each notice meets its own: at once, after a 502, or after it was taken and not answered."""
    rude: tuple[Manner, ...] = ("ok", 502, "reset")
    first = rude[int(hashlib.sha256(f"{path}{key}".encode()).hexdigest(), 16) % 3]
    return first if number == 0 else "ok"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver(manner)
    yield made
    made.close()


def test_told_at_least_once_wherever_it_is_killed(tmp_path: Path, receiver: Receiver) -> None:
    """A failed night would be found out in the morning; or one failure be told as two."""

    def told(proof: Path) -> Document:
        jobs = [job("a", "work 0.01"), job("b", "exit 3", "a")]
        notify = [
            {"to": receiver.url(f"{proof.parent.name}/{word}"), "on": sorted(EXPECTED)}
            for word in ("one", "two")
        ]
        return queue("told", jobs, proof, notify=notify)

    def check(world: World) -> None:
        notified = world.projection()["notified"]
        assert {each["event"] for each in notified} == EXPECTED
        assert len(notified) == 4 and all("told_at" in each for each in notified), notified
        for word in ("one", "two"):
            came = receiver.at(f"{world.root.name}/{word}")
            ids = {each.body["event"]: each.key for each in came if each.accepted}
            assert ids.keys() == EXPECTED, "somebody was never told"
            # Doubles are the same, byte by byte.
            assert len({(each.key, each.data) for each in came}) == len(EXPECTED)
            assert {each["id"] for each in notified} == {*ids.values()}

    def story(world: World, warm: Launcher, kill_at: KillAt) -> bool:
        words = world.run_words()
        first = warm.start(world, *words, kill_at=kill_at)
        killed = first.killed
        if killed:
            assert warm.start(world, *words).wait() == 100, (world.root / "output").read_text()
        check(world)
        return killed

    crossed = sweep(tmp_path, told, story)
    assert {f"before {DELIVERY}", f"after {DELIVERY}", "after Database.commit"} <= crossed
