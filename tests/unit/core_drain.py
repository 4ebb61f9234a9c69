"""Brings a world's queue to its end: from any state, once everything in it ends, it must."""

from __future__ import annotations

from core_invariants import check_verdict
from core_world import World

from runner.core import events as ev
from runner.core.states import QUEUE_ENDED


def run_to_the_end(world: World) -> None:
    """An interrupted queue may take another session; none goes on for ever."""
    for _ in range(5):
        _drain(world)
        if world.core.queue.status in QUEUE_ENDED:
            check_verdict(world.core)
            return
        world.load()
        world.open(["unpause"], collects=True)
    raise AssertionError("session after session, and the queue has not ended")


def _drain(world: World) -> None:
    for turn in range(400):
        world.commit()
        if world.core.finished:
            return
        if world.core.queue.paused:
            world.request("unpause", None)
        elif world.core.blocked:
            world.request("unblock", None)
        elif world.uploads:
            world.store(0, ok=True)
        elif world.checks:
            world.check_outputs(0, lost=False)
        elif world.fetches:
            world.fetch(0, seconds=1.0)
        elif world.core.waits_for_release:
            world.request("release", None)
        elif not _end_one(world, turn):
            due = world.core.next_deadline()
            assert due is not None, "nothing is left to happen"
            world.pass_time(max(0.0, due - world.mono))
    raise AssertionError("fed with ends, the queue never finishes")


def _end_one(world: World, turn: int) -> bool:
    for token, tree in world.trees.items():
        if tree.told and token not in world.ending:
            continue
        if tree.told:
            world.end_kept(token)
        elif token in world.voids:
            world.void(token, 0.0)
        else:
            world.claim(token)
            world.end(token, ev.Exited(turn % 2), kept=True)
            world.tell_end(token)
        return True
    return False
