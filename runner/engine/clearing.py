"""Ending whatever a slot file says still runs, when the state itself can't be read any more."""

from __future__ import annotations

from pathlib import Path

from runner.engine.strays import end_stray, strays
from runner.process.cgroup import Group
from runner.process.identity import boot_id
from runner.process.slots import SlotFile
from runner.process.wire import User


def end_every_attempt(path: Path, user: User | None, unit: str | None) -> int:
    """End every attempt on record: SIGTERM, two seconds, SIGKILL; returns how many lived.

    ``user``: as whom the commands were run, None for our own. ``unit``: where their control groups
    are, if they have any.
    """
    if not path.is_file():
        return 0
    slots = SlotFile.open(str(path))
    try:
        return sum(
            end_stray(slots, stray, user, Group(unit, stray.slot.token) if unit else None)
            for stray in strays(slots, boot_id(), frozenset())
        )
    finally:
        slots.close()
